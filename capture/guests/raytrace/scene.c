/* The objects: hilly ground of triangles with lakes, and clusters of mirroring spheres above it.
   Each object is a function of its number, so that any CPU can make any of them. */
#include "scene.h"

struct sphere spheres[MAX_SPHERES] PAGE_ALIGNED;
struct triangle triangles[2 * MAX_SIDE * MAX_SIDE] PAGE_ALIGNED;
uint32_t sphere_count = 4 << 10, triangle_count, side = 48, seed = 1;

#define WATER 0.12 /* height of the lakes */

/* A number from 0 to 1, without 1, for a key. */
static double noise(uint32_t key) { return (mix(key ^ mix(seed)) >> 8) * (1.0 / (1 << 24)); }

/* Value noise: random heights at the corners of a lattice, smoothly joined. */
static double octave(double x, double z, uint32_t lattice) {
  double u = x * lattice, v = z * lattice;
  uint32_t i = (uint32_t)u, j = (uint32_t)v, base = lattice << 20;
  double s = u - i, t = v - j;
  s = s * s * (3 - 2 * s);
  t = t * t * (3 - 2 * t);
  double a = noise(base + i * 1024 + j), b = noise(base + (i + 1) * 1024 + j);
  double c = noise(base + i * 1024 + j + 1), d = noise(base + (i + 1) * 1024 + j + 1);
  return (a * (1 - s) + b * s) * (1 - t) + (c * (1 - s) + d * s) * t;
}

static double height(double x, double z) {
  double y = 0.02 + 0.22 * octave(x, z, 4) + 0.06 * octave(x, z, 16) + 0.02 * octave(x, z, 64);
  return larger(y, WATER);
}

/* A corner of the ground, well inside the unit cube. */
static struct vector ground(uint32_t i, uint32_t j) {
  double x = 0.005 + 0.99 * i / side, z = 0.005 + 0.99 * j / side;
  return (struct vector){x, height(x, z), z};
}

void make_triangles(uint32_t begin, uint32_t end) {
  for (uint32_t n = begin; n < end; n++) {
    struct triangle *triangle = &triangles[n];
    uint32_t square = n / 2, i = square % side, j = square / side;
    struct vector near = ground(i, j), far = ground(i + 1, j + 1);
    struct vector third = n % 2 ? ground(i + 1, j) : ground(i, j + 1);
    triangle->corner = near;
    triangle->edge1 = subtract(far, near);
    triangle->edge2 = subtract(third, near);
    struct vector normal = unit(cross(triangle->edge1, triangle->edge2));
    triangle->normal = normal.y < 0 ? scale(normal, -1) : normal;
    int water = near.y <= WATER && far.y <= WATER && third.y <= WATER;
    float shade = (float)(0.5 + 0.5 * noise(n ^ 0x5a000000));
    triangle->material = water ? (struct material){0.1f, 0.2f, 0.4f, 0.6f}
                               : (struct material){0.5f * shade, 0.7f * shade, 0.3f * shade, 0.05f};
  }
}

/* Clusters of 64: a centre, and the spheres around it, small ones many and large ones few. */
void make_spheres(uint32_t begin, uint32_t end) {
  for (uint32_t n = begin; n < end; n++) {
    uint32_t cluster = 0x10000000 + n / 64 * 8, own = 0x20000000 + n * 8;
    struct vector centre = {0.1 + 0.8 * noise(cluster), 0, 0.1 + 0.8 * noise(cluster + 1)};
    centre.y = height(centre.x, centre.z) + 0.1 + 0.35 * noise(cluster + 2);
    struct vector offset = {noise(own) - 0.5, noise(own + 1) - 0.5, noise(own + 2) - 0.5};
    double pick = noise(own + 3);
    struct sphere *sphere = &spheres[n];
    sphere->centre = add(centre, scale(offset, 0.16));
    sphere->radius = 0.002 + 0.012 * pick * pick * pick;
    sphere->material = (struct material){(float)(0.3 + 0.7 * noise(own + 4)),
                                         (float)(0.3 + 0.7 * noise(own + 5)),
                                         (float)(0.3 + 0.7 * noise(own + 6)), 0.7f};
  }
}
