// The processor's tiles (AMX): eight registers of 16 rows of 64 bytes, and products of them. What files with
// their intrinsics need: functions are compiled for them whatever the build's target is, and called only
// where HasTiles() (cpu.h) says so.
#pragma once

#if defined(__x86_64__)
#include "pair_target.h"

#define TILE_TARGET \
  __attribute__((target("amx-tile,amx-bf16,amx-int8,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define TILE_INLINE TILE_TARGET __attribute__((always_inline)) inline

namespace internvl {

/// Eight tiles of 64 bytes a row, as the processor reads it: 6 and 7, second factors, of 16 rows, the others
/// of `count`.
struct alignas(64) TileShape {
  unsigned char palette = 1, start = 0, reserved[14] = {};
  unsigned short row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  unsigned char rows[16] = {};

  constexpr explicit TileShape(unsigned char count) {
    for (int tile = 0; tile < 8; ++tile) rows[tile] = tile < 6 ? count : 16;
  }
};
inline constexpr TileShape kTileShapes[16] = {TileShape(1),  TileShape(2),  TileShape(3),  TileShape(4),
                                              TileShape(5),  TileShape(6),  TileShape(7),  TileShape(8),
                                              TileShape(9),  TileShape(10), TileShape(11), TileShape(12),
                                              TileShape(13), TileShape(14), TileShape(15), TileShape(16)};

/// The thread's tiles while this lives. Tiles in use make it dearer for the operating system to change
/// threads, hence the end.
class TileUse {
 public:
  TILE_TARGET explicit TileUse(int rows = 16) { _tile_loadconfig(&kTileShapes[rows - 1]); }
  TILE_TARGET ~TileUse() { _tile_release(); }
  TileUse(const TileUse&) = delete;
  TileUse& operator=(const TileUse&) = delete;
};

/// What was stored before it lies in memory before a tile is loaded: the intrinsics of GCC 12 do not say that
/// they read.
inline void TileFence() { __asm__ volatile("" ::: "memory"); }

}  // namespace internvl
#endif
