/* The colour of a pixel: a ray from the eye, light and shadow where it ends, and on from there by
   reflection. */
#include "scene.h"

#define FAINT 0.02 /* light below this part is not followed */

static const struct vector sun = {0.42, 0.84, -0.34};

/* The eye moves along one side of the scene, and looks at its middle. */
struct camera camera_of(uint32_t frame, uint32_t frames) {
  const struct vector middle = {0.5, 0.3, 0.55}, skyward = {0, 1, 0};
  struct camera camera;
  camera.eye = (struct vector){0.15 + 0.7 * (frame + 0.5) / frames, 0.55, 0.03};
  camera.ahead = unit(subtract(middle, camera.eye));
  camera.right = unit(cross(skyward, camera.ahead));
  camera.up = cross(camera.ahead, camera.right);
  return camera;
}

static struct ray eye_ray(const struct camera *camera, uint32_t x, uint32_t y, uint32_t image) {
  double right = (x + 0.5) / image - 0.5, up = 0.5 - (y + 0.5) / image;
  struct vector aside = add(scale(camera->right, 1.1 * right), scale(camera->up, 1.1 * up));
  return (struct ray){camera->eye, unit(add(camera->ahead, aside))};
}

static uint32_t channel(double light) {
  return light <= 0 ? 0 : light >= 1 ? 255 : (uint32_t)(light * 255);
}

uint32_t pixel_colour(const struct finder *finder, const struct camera *camera, uint32_t x,
                      uint32_t y, uint32_t image, uint32_t depth) {
  struct ray ray = eye_ray(camera, x, y, image);
  struct vector light = unit(sun), colour = {0, 0, 0};
  double part = 1;
  for (uint32_t bounce = 0; bounce <= depth && part > FAINT; bounce++) {
    struct hit hit = finder->nearest(&ray);
    if (hit.object < 0) {
      double up = larger(ray.along.y, 0);
      struct vector sky = {0.5 - 0.3 * up, 0.7 - 0.2 * up, 1};
      colour = add(colour, scale(sky, part));
      break;
    }
    uint32_t n = (uint32_t)hit.object;
    struct vector at = add(ray.from, scale(ray.along, hit.distance)), normal;
    const struct material *material;
    if (n < sphere_count) {
      normal = scale(subtract(at, spheres[n].centre), 1 / spheres[n].radius);
      material = &spheres[n].material;
    } else {
      normal = triangles[n - sphere_count].normal;
      material = &triangles[n - sphere_count].material;
    }
    double facing = dot(normal, ray.along);
    if (facing > 0) { /* from within, or from below */
      normal = scale(normal, -1);
      facing = -facing;
    }
    /* Off the surface, so that the next ray does not meet it again. */
    struct vector off = add(at, scale(normal, 1e-7));
    double brightness = 0.2, slope = dot(normal, light);
    struct ray to_sun = {off, light};
    if (slope > 0 && !finder->blocked(&to_sun)) brightness += 0.8 * slope;
    double own = part * (1 - material->mirror) * brightness;
    colour = add(colour, (struct vector){material->red * own, material->green * own,
                                         material->blue * own});
    part *= material->mirror;
    ray.from = off;
    ray.along = unit(subtract(ray.along, scale(normal, 2 * facing)));
  }
  return 0xff000000u | channel(colour.x) << 16 | channel(colour.y) << 8 | channel(colour.z);
}
