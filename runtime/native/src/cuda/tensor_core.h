// The tensor cores' product of bfloat16 tiles, the loads that hand a warp its fragments of them, and the
// conversions around both. All 32 lanes of a warp call together. On the host a warp exchanges its operands
// and every lane computes its part of the same result.
//
// mma.sync works on every architecture from sm_80 on; on sm_90 it reaches 60 to 65 % of the rate of wgmma,
// which only Hopper has.
#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#include "../tensor.h"

namespace internvl::cuda {

/// Lanes hold their 16 x 16 fragment of a (row g = lane / 4 and g + 8, columns 2t, 2t + 1 and 2t + 8, 2t + 9,
/// t = lane % 4: a[0] is row g's lower columns, a[1] row g + 8's, a[2] and a[3] the upper ones), 16 x 8 of b
/// (rows 2t, 2t + 1 in b[0], 2t + 8, 2t + 9 in b[1], column g) and 16 x 8 of d (row g columns 2t, 2t + 1 in
/// d[0], d[1], row g + 8 in d[2], d[3]). d += a * b.
__device__ inline void MmaBf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#ifdef __CUDACC__
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  struct Operands {
    uint32_t a[4], b[2];
  };
  Operands mine, all[32];
  std::memcpy(mine.a, a, sizeof(mine.a));
  std::memcpy(mine.b, b, sizeof(mine.b));
  cuda_on_host::WarpExchange(mine, all);
  const auto element = [](uint32_t pair, int which) {
    return ToFloat(BFloat16{static_cast<uint16_t>(pair >> (16 * which))});
  };
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
    double sum = d[i];
    for (int k = 0; k < 16; ++k) {
      const int pair = k % 8 / 2, upper = k / 8;
      sum += double{element(all[row % 8 * 4 + pair].a[row / 8 + 2 * upper], k % 2)} *
             element(all[column * 4 + pair].b[upper], k % 2);
    }
    d[i] = static_cast<float>(sum);
  }
#endif
}

#ifndef __CUDACC__
/// What ldmatrix reads: the lanes' rows, 8 of each of the 4 matrices.
struct MatrixRows {
  struct Row {
    uint16_t element[8];
  };
  Row row[32];
  explicit MatrixRows(const void* mine) {
    Row read;
    std::memcpy(&read, mine, sizeof(read));
    cuda_on_host::WarpExchange(read, row);
  }
  uint32_t Pair(int matrix, int r0, int c0, int r1, int c1) const {
    return row[matrix * 8 + r0].element[c0] | uint32_t{row[matrix * 8 + r1].element[c1]} << 16;
  }
};
#endif

/// Four 8 x 8 matrices of bfloat16 from shared memory: lane l gives the address of row l % 8 of matrix l / 8
/// (16 bytes, aligned to 16) and gets columns 2t, 2t + 1 of row g of each.
__device__ inline void LoadMatrixX4(uint32_t (&r)[4], const void* row) {
#ifdef __CUDACC__
  const auto from = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(from)
               : "memory");
#else
  const MatrixRows rows(row);
  const int lane = static_cast<int>(threadIdx.x % 32), g = lane / 4, t = lane % 4;
  for (int i = 0; i < 4; ++i) r[i] = rows.Pair(i, g, 2 * t, g, 2 * t + 1);
#endif
}

/// The same of the transposed matrices: a lane gets rows 2t, 2t + 1 of column g of each.
__device__ inline void LoadMatrixX4Transposed(uint32_t (&r)[4], const void* row) {
#ifdef __CUDACC__
  const auto from = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(from)
               : "memory");
#else
  const MatrixRows rows(row);
  const int lane = static_cast<int>(threadIdx.x % 32), g = lane / 4, t = lane % 4;
  for (int i = 0; i < 4; ++i) r[i] = rows.Pair(i, 2 * t, g, 2 * t + 1, g);
#endif
}

/// Two bfloat16, rounded to nearest, `low` in the lower half.
__device__ inline uint32_t PackBf16(float low, float high) {
#ifdef __CUDACC__
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return ToBFloat16(low).bits | uint32_t{ToBFloat16(high).bits} << 16;
#endif
}

/// 2^x in one instruction, to 2 ulps; what would be subnormal is 0.
__device__ inline float Exp2(float x) {
#ifdef __CUDACC__
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(result) : "f"(x));
  return result;
#else
  return std::exp2(x);
#endif
}

}  // namespace internvl::cuda
