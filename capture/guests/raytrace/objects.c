/* One ray and one object: the distance at which they meet, or NOWHERE. */
#include "scene.h"

#define NEAREST 1e-9 /* a ray does not meet what it starts from */

double meet_sphere(const struct ray *ray, const struct sphere *sphere) {
  struct vector to = subtract(sphere->centre, ray->from);
  double along = dot(to, ray->along);
  struct vector beside = subtract(to, scale(ray->along, along));
  double left = sphere->radius * sphere->radius - dot(beside, beside);
  if (left < 0) return NOWHERE;
  double half = __builtin_sqrt(left);
  if (along - half > NEAREST) return along - half;
  return along + half > NEAREST ? along + half : NOWHERE;
}

/* Möller and Trumbore, "Fast, minimum storage ray/triangle intersection" (1997). */
double meet_triangle(const struct ray *ray, const struct triangle *triangle) {
  struct vector p = cross(ray->along, triangle->edge2);
  double determinant = dot(triangle->edge1, p);
  if (determinant > -1e-15 && determinant < 1e-15) return NOWHERE;
  struct vector s = subtract(ray->from, triangle->corner);
  double inverse = 1 / determinant, u = dot(s, p) * inverse;
  if (u < 0 || u > 1) return NOWHERE;
  struct vector q = cross(s, triangle->edge1);
  double v = dot(ray->along, q) * inverse;
  if (v < 0 || u + v > 1) return NOWHERE;
  double distance = dot(triangle->edge2, q) * inverse;
  return distance > NEAREST ? distance : NOWHERE;
}

double meet_object(const struct ray *ray, int32_t object) {
  uint32_t n = (uint32_t)object;
  return n < sphere_count ? meet_sphere(ray, &spheres[n])
                          : meet_triangle(ray, &triangles[n - sphere_count]);
}
