/* A parallel ray tracer: reflections and shadows over one shared scene that nobody writes once it
   is built. Pixels are dealt out in tiles; each CPU has a queue of them and takes from the others'
   when its own is empty. With build=serial, the default, CPU 0 makes the scene, as a program does
   that reads it from a file. Checked after each frame: some pixels are computed again without the
   grid; and the sum over all pixels depends on nothing but the scene. */
#include "scene.h"

enum { PHASE_BUILD = 1, PHASE_SCENE, PHASE_GRID, PHASE_RENDER, PHASE_CHECK };

#define TILE 4 /* pixels along one side */

static uint32_t image = 40, frames = 16, depth = 4, samples = 1, build_parallel;
static uint32_t cpus, tiles_across;
static struct camera camera; /* of the present frame */
static uint32_t framebuffer[MAX_IMAGE * MAX_IMAGE] PAGE_ALIGNED;
static barrier_t barrier;

/* Tiles [next, end) that nobody has taken yet. */
static struct queue {
  mutex_t lock;
  uint32_t next, end;
} LINE_ALIGNED queues[MAX_CPUS];

static struct {
  uint32_t entries; /* in this CPU's share of the cells */
  uint32_t stolen;
  uint32_t unpainted, differing, sum;
} LINE_ALIGNED own[MAX_CPUS];

static const struct finder by_grid = {grid_nearest, grid_blocked};
static const struct finder by_trying = {all_nearest, all_blocked};

/* The share of `total` that a CPU builds. */
static uint32_t begin_of(uint32_t total, uint32_t cpu) {
  if (build_parallel) return share_begin(total, cpus, cpu);
  return cpu == 0 ? 0 : total;
}

static void build(uint32_t cpu) {
  uint32_t objects = sphere_count + triangle_count, cells = grid_cells(), start = 0;
  phase_begin(PHASE_SCENE);
  make_triangles(begin_of(triangle_count, cpu), begin_of(triangle_count, cpu + 1));
  make_spheres(begin_of(sphere_count, cpu), begin_of(sphere_count, cpu + 1));
  barrier_wait(&barrier);
  phase_end(PHASE_SCENE);
  phase_begin(PHASE_GRID);
  grid_count(begin_of(objects, cpu), begin_of(objects, cpu + 1));
  barrier_wait(&barrier);
  own[cpu].entries = grid_cell_sum(begin_of(cells, cpu), begin_of(cells, cpu + 1));
  barrier_wait(&barrier);
  for (uint32_t c = 0; c < cpu; c++) start += own[c].entries;
  if (begin_of(cells, cpu) < begin_of(cells, cpu + 1))
    grid_place(begin_of(cells, cpu), begin_of(cells, cpu + 1), start);
  barrier_wait(&barrier);
  grid_fill(begin_of(objects, cpu), begin_of(objects, cpu + 1));
  barrier_wait(&barrier);
  phase_end(PHASE_GRID);
}

static void render_tile(uint32_t tile) {
  uint32_t left = tile % tiles_across * TILE, top = tile / tiles_across * TILE;
  for (uint32_t y = top; y < top + TILE && y < image; y++)
    for (uint32_t x = left; x < left + TILE && x < image; x++)
      framebuffer[y * image + x] = pixel_colour(&by_grid, &camera, x, y, image, depth);
}

/* Take a tile from a queue, at the front as its owner, at the back as a thief; -1 if it is empty. */
static int32_t take_tile(struct queue *queue, int steal) {
  int32_t tile = -1;
  mutex_lock(&queue->lock);
  if (queue->next < queue->end) tile = (int32_t)(steal ? --queue->end : queue->next++);
  mutex_unlock(&queue->lock);
  return tile;
}

static void render(uint32_t cpu) {
  int32_t tile;
  while ((tile = take_tile(&queues[cpu], 0)) >= 0) render_tile((uint32_t)tile);
  for (uint32_t other = 1; other < cpus; other++) {
    struct queue *queue = &queues[(cpu + other) % cpus];
    /* Looking first spares the lock of a queue that is empty, and stays so. */
    while (__atomic_load_n(&queue->next, __ATOMIC_RELAXED) <
           __atomic_load_n(&queue->end, __ATOMIC_RELAXED)) {
      if ((tile = take_tile(queue, 1)) < 0) break;
      render_tile((uint32_t)tile);
      own[cpu].stolen++;
    }
  }
}

/* Compute sampled pixels again; which ones does not depend on the number of CPUs. Add up all
   pixels, and clear them for the next frame. */
static void check(uint32_t cpu, uint32_t frame) {
  uint32_t pixels = image * image, begin = share_begin(pixels, cpus, cpu);
  for (uint32_t s = cpu; s < samples; s += cpus) {
    uint32_t random = mix(frame * samples + s + mix(seed + 1));
    uint32_t i = (uint32_t)((uint64_t)random * pixels >> 32);
    uint32_t again = pixel_colour(&by_trying, &camera, i % image, i / image, image, depth);
    own[cpu].differing += again != framebuffer[i];
  }
  barrier_wait(&barrier);
  for (uint32_t i = begin; i < share_begin(pixels, cpus, cpu + 1); i++) {
    own[cpu].unpainted += framebuffer[i] >> 24 != 0xff;
    own[cpu].sum += mix(framebuffer[i] ^ mix(frame * pixels + i));
    framebuffer[i] = 0;
  }
}

static void deal_tiles(void) {
  uint32_t tiles = tiles_across * tiles_across;
  for (uint32_t c = 0; c < cpus; c++) {
    queues[c].next = share_begin(tiles, cpus, c);
    queues[c].end = share_begin(tiles, cpus, c + 1);
  }
}

static void work(void *argument, uint32_t cpu) {
  (void)argument;
  phase_begin(PHASE_BUILD);
  build(cpu);
  phase_end(PHASE_BUILD);
  for (uint32_t frame = 0; frame < frames; frame++) {
    if (cpu == 0) {
      camera = camera_of(frame, frames);
      deal_tiles();
    }
    barrier_wait(&barrier);
    phase_begin(PHASE_RENDER);
    render(cpu);
    barrier_wait(&barrier);
    phase_end(PHASE_RENDER);
    phase_begin(PHASE_CHECK);
    check(cpu, frame);
    barrier_wait(&barrier);
    phase_end(PHASE_CHECK);
  }
}

int main(int argc, char **argv) {
  const argument_t arguments[] = {
      {.key = "image", .help = "pixels along one side", .number = &image, .least = 1,
       .most = MAX_IMAGE},
      {.key = "frames", .help = "pictures, each from another place", .number = &frames, .least = 1,
       .most = 1000},
      {.key = "ground", .help = "squares along one side, two triangles each", .number = &side,
       .least = 1, .most = MAX_SIDE},
      {.key = "spheres", .help = "spheres", .number = &sphere_count, .most = MAX_SPHERES},
      {.key = "grid", .help = "cells along one side", .number = &grid_side, .least = 1,
       .most = MAX_GRID},
      {.key = "depth", .help = "reflections that are followed", .number = &depth, .most = 100},
      {.key = "samples", .help = "pixels of each computed again", .number = &samples, .most = 1 << 20},
      {.key = "seed", .help = "which scene", .number = &seed, .most = ~0u},
      {.key = "build", .help = "who makes the scene: CPU 0 alone, or each CPU its part",
       .choices = "serial|parallel", .choice = &build_parallel},
      {.key = "wrong", .help = "1: leave objects out of the grid", .number = &grid_wrong,
       .most = 1},
  };
  arguments_parse(argc, argv, arguments, sizeof arguments / sizeof *arguments);
  cpus = cpu_count();
  triangle_count = 2 * side * side;
  tiles_across = (image + TILE - 1) / TILE;
  barrier_init(&barrier, cpus);
  parallel(work, NULL);

  uint32_t unpainted = 0, differing = 0, sum = 0, stolen = 0;
  for (uint32_t c = 0; c < cpus; c++) {
    unpainted += own[c].unpainted;
    differing += own[c].differing;
    sum += own[c].sum;
    stolen += own[c].stolen;
  }
  if (unpainted) fatal("raytrace: %u pixels were not painted\n", unpainted);
  if (differing) fatal("raytrace: %u of %u pixels differ without the grid\n", differing,
                       frames * samples);
  printf("raytrace: %u triangles, %u spheres, picture %08x, %u pixels checked\n", triangle_count,
         sphere_count, sum, frames * samples);
  printf("raytrace: %u cpus, %u tiles stolen\n", cpus, stolen);
  return 0;
}
