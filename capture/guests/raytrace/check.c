/* The second method: every object is tried with every ray. Nothing of the grid is used. */
#include "scene.h"

struct hit all_nearest(const struct ray *ray) {
  struct hit best = {NOWHERE, -1};
  for (uint32_t n = 0; n < sphere_count + triangle_count; n++) {
    double distance = meet_object(ray, (int32_t)n);
    if (distance < best.distance) best = (struct hit){distance, (int32_t)n};
  }
  return best;
}

int all_blocked(const struct ray *ray) {
  for (uint32_t n = 0; n < sphere_count + triangle_count; n++)
    if (meet_object(ray, (int32_t)n) < NOWHERE) return 1;
  return 0;
}
