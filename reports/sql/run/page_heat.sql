-- include: common.contexts
-- include: common.symbols

-- What lies in a page: the virtual page under which it was referenced most, and of the symbols
-- there the one that covers most of it.
CREATE VIEW _page_symbols_now AS
WITH uses AS (
    SELECT context, guest_page, vaddr >> 12 AS virtual_page, count(*) AS uses
    FROM _source_refs
    GROUP BY ALL
),
pages AS (
    SELECT trace, vm, guest_page, arg_max(virtual_page, uses) AS virtual_page,
        arg_max(asid, uses)::INTEGER AS asid
    FROM uses JOIN _contexts USING (context)
    GROUP BY trace, vm, guest_page
),
covers AS (
    SELECT
        p.trace,
        p.vm,
        p.guest_page,
        s.name,
        s.type,
        least(s.end_address, (p.virtual_page + 1) << 12)
            - greatest(s.address, p.virtual_page << 12) AS bytes
    FROM pages AS p
    JOIN _symbol_ranges AS s
        ON s.trace = p.trace AND s.vm = p.vm AND s.asid IN (-1, p.asid)
        AND s.address < (p.virtual_page + 1) << 12 AND s.end_address > p.virtual_page << 12
)
SELECT trace, vm, guest_page, arg_max(name, (type <> 'section', bytes)) AS symbol
FROM covers
GROUP BY trace, vm, guest_page;
CREATE TABLE _page_symbols AS FROM _page_symbols_now LIMIT 0;

CREATE VIEW page_heat AS
SELECT
    h.trace,
    h.run,
    nullif(h.vm, 65535) AS vm,
    h.guest_page,
    h.node,
    h.local,
    h.remote,
    h.writes,
    h.moves,
    coalesce(
        s.symbol, printf(if(h.vm = 65535, 'shared page 0x%x', 'page 0x%x'), h.guest_page)
    ) AS symbol
FROM _source_heat AS h
LEFT JOIN _page_symbols AS s
    ON s.trace = h.trace AND s.vm = h.vm AND s.guest_page = h.guest_page;

COMMENT ON VIEW page_heat IS 'What the CPUs of one node did to one guest page in one run.';
COMMENT ON COLUMN page_heat.trace IS 'name of the trace''s folder';
COMMENT ON COLUMN page_heat.run IS 'name of the run''s folder';
COMMENT ON COLUMN page_heat.vm IS 'virtual machine; 0 on the bare machine; none for a shared page';
COMMENT ON COLUMN page_heat.guest_page IS 'guest-physical page number (4 KiB pages); a shared page''s own number';
COMMENT ON COLUMN page_heat.node IS 'node whose CPUs missed';
COMMENT ON COLUMN page_heat.local IS 'second-level misses served by the own node';
COMMENT ON COLUMN page_heat.remote IS 'second-level misses served by another node, dirty ones included';
COMMENT ON COLUMN page_heat.writes IS 'writes among the misses';
COMMENT ON COLUMN page_heat.moves IS 'times the page was moved for this node';
COMMENT ON COLUMN page_heat.symbol IS 'symbol that covers most of the page, or the page number in hex where none is known';
