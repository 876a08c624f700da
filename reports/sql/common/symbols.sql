-- include: common.contexts
-- Which symbol an address belongs to.
--
-- Rows find their symbol through a small table of the distinct (context, pc) pairs: a look-up of
-- two integers, where a join on address ranges would cost a search for every one of millions of
-- rows. To make that table costs a scan of two columns, so it begins empty, and
-- `disco_trace.report.database` fills `_x` from the view `_x_now` when a query first asks for a
-- symbol.

CREATE TABLE _symbol_ranges AS
WITH ends AS (
    -- Assembly often gives no size: such a symbol lasts until the next one, at most a page.
    SELECT
        *,
        CASE
            WHEN size > 0 THEN address + size
            ELSE least(
                coalesce(
                    lead(address) OVER (
                        PARTITION BY trace, vm, asid, type = 'section' ORDER BY address
                    ),
                    address + 4096
                ),
                address + 4096
            )
        END AS end_address
    FROM _source_symbols
)
-- Of several names for one address (aliases), a function wins, then the first of the alphabet.
SELECT trace, vm, asid, address, end_address, type, image, name
FROM ends
WHERE end_address > address
QUALIFY row_number() OVER (
    PARTITION BY trace, vm, asid, address, type = 'section'
    ORDER BY type <> 'func', end_address DESC, name
) = 1
ORDER BY trace, vm, asid, address;

-- `pairs` names a view of (context, pc); the nearest symbol at or below the pc counts if it
-- reaches that far, one of the process itself before one that all address spaces share.
CREATE MACRO _symbols_of(pairs) AS TABLE
WITH located AS (
    SELECT context, pc, trace, vm, asid::INTEGER AS asid
    FROM query_table(pairs) JOIN _contexts USING (context)
),
code_ranges AS (
    SELECT * FROM _symbol_ranges WHERE type <> 'section'
),
own AS (
    SELECT located.*, r.image, r.name, r.end_address
    FROM located
    ASOF LEFT JOIN (FROM code_ranges WHERE asid >= 0) AS r
        ON r.trace = located.trace AND r.vm = located.vm AND r.asid = located.asid
        AND located.pc >= r.address
),
shared AS (
    SELECT
        own.*,
        r.image AS shared_image,
        r.name AS shared_name,
        r.end_address AS shared_end
    FROM own
    ASOF LEFT JOIN (FROM code_ranges WHERE asid < 0) AS r
        ON r.trace = own.trace AND r.vm = own.vm AND own.pc >= r.address
)
SELECT
    context,
    pc,
    CASE WHEN pc < end_address THEN image WHEN pc < shared_end THEN shared_image ELSE '' END
        AS image,
    CASE
        WHEN pc < end_address THEN name
        WHEN pc < shared_end THEN shared_name
        ELSE printf('0x%08x', pc)
    END AS symbol
FROM shared;
