/* A uniform grid over the unit cube. Each cell lists every object whose box, a little widened,
   overlaps it. The widening is far above rounding errors, so a ray that walks from cell to cell
   misses nothing. */
#include "scene.h"

#define WIDENING 1e-6

static struct cell {
  uint32_t begin, end; /* its part of the entries */
} cells[MAX_GRID * MAX_GRID * MAX_GRID] PAGE_ALIGNED;
static int32_t entries[MAX_ENTRIES] PAGE_ALIGNED;
uint32_t grid_side = 64, grid_wrong;

uint32_t grid_cells(void) { return grid_side * grid_side * grid_side; }

static uint32_t cell_of(double coordinate) {
  int32_t cell = (int32_t)(coordinate * grid_side);
  return cell < 0 ? 0 : (uint32_t)cell >= grid_side ? grid_side - 1 : (uint32_t)cell;
}

/* The cells that an object's box overlaps, the last ones included. */
struct box {
  uint32_t low[3], high[3];
};

static struct box box_of(struct vector low, struct vector high) {
  return (struct box){
      {cell_of(low.x - WIDENING), cell_of(low.y - WIDENING), cell_of(low.z - WIDENING)},
      {cell_of(high.x + WIDENING), cell_of(high.y + WIDENING), cell_of(high.z + WIDENING)}};
}

static double least(double a, double b, double c) { return smaller(a, smaller(b, c)); }
static double most(double a, double b, double c) { return larger(a, larger(b, c)); }

static struct box box_of_object(uint32_t n) {
  if (n < sphere_count) {
    const struct sphere *s = &spheres[n];
    struct vector reach = {s->radius, s->radius, s->radius};
    return box_of(subtract(s->centre, reach), add(s->centre, reach));
  }
  const struct triangle *t = &triangles[n - sphere_count];
  struct vector a = t->corner, b = add(a, t->edge1), c = add(a, t->edge2);
  return box_of((struct vector){least(a.x, b.x, c.x), least(a.y, b.y, c.y), least(a.z, b.z, c.z)},
                (struct vector){most(a.x, b.x, c.x), most(a.y, b.y, c.y), most(a.z, b.z, c.z)});
}

/* Add every object to its cells: as a count, or as an entry in front of those already there. */
static void spread(uint32_t begin, uint32_t end, int fill) {
  for (uint32_t n = begin; n < end; n++) {
    if (grid_wrong && n % 4 == 0) continue;
    struct box box = box_of_object(n);
    for (uint32_t z = box.low[2]; z <= box.high[2]; z++)
      for (uint32_t y = box.low[1]; y <= box.high[1]; y++)
        for (uint32_t x = box.low[0]; x <= box.high[0]; x++) {
          uint32_t *begin = &cells[(z * grid_side + y) * grid_side + x].begin;
          if (fill)
            entries[__atomic_sub_fetch(begin, 1, __ATOMIC_RELAXED)] = (int32_t)n;
          else
            __atomic_fetch_add(begin, 1, __ATOMIC_RELAXED);
        }
  }
}

void grid_count(uint32_t begin, uint32_t end) { spread(begin, end, 0); }
void grid_fill(uint32_t begin, uint32_t end) { spread(begin, end, 1); }

/* The entries of a range of cells, between counting and placing. */
uint32_t grid_cell_sum(uint32_t begin, uint32_t end) {
  uint32_t sum = 0;
  for (uint32_t c = begin; c < end; c++) sum += cells[c].begin;
  return sum;
}

/* Turn counts into places: each cell begins at its end, and filling moves the beginning. */
void grid_place(uint32_t begin, uint32_t end, uint32_t start) {
  for (uint32_t c = begin; c < end; c++) {
    start += cells[c].begin;
    cells[c].begin = cells[c].end = start;
  }
  if (start > MAX_ENTRIES) fatal("raytrace: %u entries are too many: take another grid\n", start);
}

/* The walk of a ray through the grid (Amanatides and Woo, 1987), but without sums that gather
   rounding errors: where the ray leaves a cell is computed from the cell's own number. */
struct walk {
  int32_t cell[3], step[3], ahead[3]; /* ahead: 1 where the wall that it leaves by is the upper */
  double leave[3];                    /* distance to that wall */
  double origin[3], width[3];         /* distance to wall number 0, and from one to the next */
};

static double leaving(const struct walk *walk, int axis) {
  if (walk->step[axis] == 0) return NOWHERE;
  return walk->origin[axis] + (walk->cell[axis] + walk->ahead[axis]) * walk->width[axis];
}

static void walk_begin(struct walk *walk, const struct ray *ray) {
  const double along[3] = {ray->along.x, ray->along.y, ray->along.z};
  const double from[3] = {ray->from.x, ray->from.y, ray->from.z};
  double size = 1.0 / grid_side;
  for (int axis = 0; axis < 3; axis++) {
    walk->cell[axis] = (int32_t)cell_of(from[axis]);
    walk->step[axis] = along[axis] > 0 ? 1 : along[axis] < 0 ? -1 : 0;
    walk->ahead[axis] = along[axis] > 0;
    double inverse = walk->step[axis] ? 1 / along[axis] : 0;
    walk->origin[axis] = -from[axis] * inverse;
    walk->width[axis] = size * inverse;
    walk->leave[axis] = leaving(walk, axis);
  }
}

/* Return the distance at which the present cell ends, and its list. */
static double walk_cell(const struct walk *walk, const int32_t **list, const int32_t **end) {
  uint32_t z = (uint32_t)walk->cell[2], y = (uint32_t)walk->cell[1], x = (uint32_t)walk->cell[0];
  const struct cell *cell = &cells[(z * grid_side + y) * grid_side + x];
  *list = &entries[cell->begin];
  *end = &entries[cell->end];
  return smaller(walk->leave[0], smaller(walk->leave[1], walk->leave[2]));
}

/* On to the next cell; return 0 when the ray leaves the grid. */
static int walk_on(struct walk *walk) {
  int axis = walk->leave[0] < walk->leave[1] ? 0 : 1;
  if (walk->leave[2] < walk->leave[axis]) axis = 2;
  walk->cell[axis] += walk->step[axis];
  if ((uint32_t)walk->cell[axis] >= grid_side) return 0;
  walk->leave[axis] = leaving(walk, axis);
  return 1;
}

/* What a ray meets first; of two objects at one distance, the one with the smaller number. */
struct hit grid_nearest(const struct ray *ray) {
  struct hit best = {NOWHERE, -1};
  struct walk walk;
  walk_begin(&walk, ray);
  do {
    const int32_t *entry, *end;
    double leave = walk_cell(&walk, &entry, &end);
    for (; entry < end; entry++) {
      double distance = meet_object(ray, *entry);
      if (distance > best.distance || distance == NOWHERE) continue;
      if (distance == best.distance && *entry > best.object) continue;
      best.distance = distance;
      best.object = *entry;
    }
    if (best.distance <= leave) break;
  } while (walk_on(&walk));
  return best;
}

/* Whether a ray meets anything before it leaves the grid. */
int grid_blocked(const struct ray *ray) {
  struct walk walk;
  walk_begin(&walk, ray);
  do {
    const int32_t *entry, *end;
    walk_cell(&walk, &entry, &end);
    for (; entry < end; entry++)
      if (meet_object(ray, *entry) < NOWHERE) return 1;
  } while (walk_on(&walk));
  return 0;
}
