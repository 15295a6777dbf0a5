// The processor's tiles (AMX): eight registers of 16 rows of 64 bytes, and products of them. What files with
// their intrinsics need: functions are compiled for them whatever the build's target is, and called only where
// HasTiles() (cpu.h) says so.
#pragma once

#if defined(__x86_64__)
#include "pair_target.h"

#define TILE_TARGET \
  __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define TILE_INLINE TILE_TARGET __attribute__((always_inline)) inline

namespace internvl {

/// Eight tiles of 16 rows of 64 bytes, as the processor reads it.
struct alignas(64) TileShape {
  unsigned char palette = 1, start = 0, reserved[14] = {};
  unsigned short row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  unsigned char rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
inline const TileShape kWholeTiles;

/// The thread's tiles while this lives. Tiles in use make it dearer for the operating system to change threads,
/// hence the end.
class TileUse {
 public:
  TILE_TARGET TileUse() { _tile_loadconfig(&kWholeTiles); }
  TILE_TARGET ~TileUse() { _tile_release(); }
  TileUse(const TileUse&) = delete;
  TileUse& operator=(const TileUse&) = delete;
};

/// What was stored before it lies in memory before a tile is loaded: the intrinsics of GCC 12 do not say that
/// they read.
inline void TileFence() { __asm__ volatile("" ::: "memory"); }

}  // namespace internvl
#endif
