/* The scene of the raytrace guest: its objects, the grid that finds them, and who computes what.
   Coordinates run from 0 to 1 on each axis, y upwards; nothing sticks out. All arithmetic is in
   double precision with one rounding an operation, so that any number of CPUs, and any machine with
   IEEE arithmetic, gets the same picture. */
#ifndef SCENE_H
#define SCENE_H

#include "libos.h"

#define MAX_SIDE 256               /* ground squares along one side */
#define MAX_SPHERES (64 << 10)
#define MAX_GRID 128               /* cells along one side */
#define MAX_ENTRIES (4 << 20)      /* objects in cells, counted once a cell */
#define MAX_IMAGE 1024             /* pixels along one side */

struct vector {
  double x, y, z;
};

struct material {
  float red, green, blue;
  float mirror; /* part of the light that is reflected, 0 to 1 */
};

/* Half a second-level line. */
struct sphere {
  struct vector centre;
  double radius;
  struct material material;
};

/* One second-level line. */
struct triangle {
  struct vector corner, edge1, edge2; /* corners: corner, corner + edge1, corner + edge2 */
  struct vector normal;               /* of length 1, upwards */
  struct material material;
} LINE_ALIGNED;

struct ray {
  struct vector from, along; /* along has length 1 */
};

/* What a ray meets first. Objects are numbered, spheres first; -1 is nothing. */
struct hit {
  double distance;
  int32_t object;
};

#define NOWHERE 1e30

extern struct sphere spheres[MAX_SPHERES];
extern struct triangle triangles[2 * MAX_SIDE * MAX_SIDE];
extern uint32_t sphere_count, triangle_count, side, grid_side, seed;
extern uint32_t grid_wrong; /* 1: leave objects out of the grid, which the check must notice */

/* scene.c: objects [begin, end) of each kind, each a function of its number and the seed. */
void make_triangles(uint32_t begin, uint32_t end);
void make_spheres(uint32_t begin, uint32_t end);

/* objects.c: one ray, one object. */
double meet_sphere(const struct ray *ray, const struct sphere *sphere);
double meet_triangle(const struct ray *ray, const struct triangle *triangle);
double meet_object(const struct ray *ray, int32_t object);

/* grid.c: counting, placing and filling by shares of the work, with a barrier between the steps. */
void grid_count(uint32_t begin, uint32_t end);
uint32_t grid_cell_sum(uint32_t begin, uint32_t end);
void grid_place(uint32_t begin, uint32_t end, uint32_t start);
void grid_fill(uint32_t begin, uint32_t end);
uint32_t grid_cells(void);
struct hit grid_nearest(const struct ray *ray);
int grid_blocked(const struct ray *ray);

/* check.c: the same two answers from all objects, without the grid. */
struct hit all_nearest(const struct ray *ray);
int all_blocked(const struct ray *ray);

/* shade.c: the colour of a pixel, by either way of finding what a ray meets. */
struct finder {
  struct hit (*nearest)(const struct ray *ray);
  int (*blocked)(const struct ray *ray);
};
struct camera {
  struct vector eye, ahead, right, up;
};
struct camera camera_of(uint32_t frame, uint32_t frames);
uint32_t pixel_colour(const struct finder *finder, const struct camera *camera, uint32_t x,
                      uint32_t y, uint32_t image, uint32_t depth);

static inline struct vector add(struct vector a, struct vector b) {
  return (struct vector){a.x + b.x, a.y + b.y, a.z + b.z};
}
static inline struct vector subtract(struct vector a, struct vector b) {
  return (struct vector){a.x - b.x, a.y - b.y, a.z - b.z};
}
static inline struct vector scale(struct vector a, double by) {
  return (struct vector){a.x * by, a.y * by, a.z * by};
}
static inline double dot(struct vector a, struct vector b) {
  return a.x * b.x + a.y * b.y + a.z * b.z;
}
static inline struct vector cross(struct vector a, struct vector b) {
  return (struct vector){a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
static inline struct vector unit(struct vector a) {
  return scale(a, 1 / __builtin_sqrt(dot(a, a))); /* an instruction: there is no libm */
}
static inline double smaller(double a, double b) { return a < b ? a : b; }
static inline double larger(double a, double b) { return a > b ? a : b; }

#endif
