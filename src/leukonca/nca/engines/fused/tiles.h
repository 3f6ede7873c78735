// Products in the processor's matrix tiles (Intel AMX): 16 × 16 float32 sums of 16 × 32 bf16 numbers.
//
// Driven here rather than through a library: what is multiplied is small and always of whole tiles, so that one
// configuration serves the whole engine, and sums over sites (which libraries do not offer in this form) go the
// same way as products with weights.
#pragma once

#include "vectors.h"

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__linux__)
#define LEUKONCA_TILES
#include <sys/syscall.h>
#include <unistd.h>

constexpr int kTileSide = 16;  // rows of a tile, and float32 numbers or pairs of bf16 in a row
constexpr int kTileDepth = 32;  // bf16 numbers in a row

// Linux gives a process the tiles' registers when it asks for them.
inline bool tiles_work() {
  static const bool works = [] {
    constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
  }();
  return works;
}

// Every thread that multiplies holds one. Leaves behind the configuration that it found: oneDNN remembers what
// it configured last and would trust it to be there still.
class Tiles {
 public:
  Tiles() {
    if (!tiles_work()) return;
    _tile_storeconfig(&before_);
    Configuration ours;
    ours.palette = 1;
    for (int i = 0; i < 8; ++i) {
      ours.row_bytes[i] = 4 * kTileSide;
      ours.rows[i] = kTileSide;
    }
    _tile_loadconfig(&ours);
  }
  ~Tiles() {
    if (!tiles_work()) return;
    if (before_.palette)
      _tile_loadconfig(&before_);
    else
      _tile_release();
  }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

 private:
  struct alignas(64) Configuration {
    uint8_t palette = 0, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
  };
  Configuration before_;
};

// Up to 2 × 2 tiles of sums += left · right over `steps` times kTileDepth numbers. Strides are in bytes: left_row
// between the tiles' rows, left_tile from the first to the second tile of rows, right_row likewise, right_step
// from one step to the next. Begins with zeros, or with `sums` where they are given, which then also get the
// result: float32 rows sums_row bytes apart. Tiles 0 to 3 hold the sums, 4 and 5 the left, 6 and 7 the right side.
template <int kRows, int kColumns>
inline __attribute__((always_inline)) void add_tiles(const char* left, long left_row, const char* right, long right_row,
                                                     long right_step, int steps, char* sums, long sums_row, bool add) {
  constexpr int kBytes = 4 * kTileSide;
  char* below = sums + kTileSide * sums_row;
  if (add) {
    _tile_loadd(0, sums, sums_row);
    if (kColumns > 1) _tile_loadd(1, sums + kBytes, sums_row);
    if (kRows > 1) _tile_loadd(2, below, sums_row);
    if (kRows > 1 && kColumns > 1) _tile_loadd(3, below + kBytes, sums_row);
  } else {
    _tile_zero(0);
    if (kColumns > 1) _tile_zero(1);
    if (kRows > 1) _tile_zero(2);
    if (kRows > 1 && kColumns > 1) _tile_zero(3);
  }
  for (int step = 0; step < steps; ++step) {
    const char *from = left + step * kBytes, *to = right + step * right_step;
    _tile_loadd(4, from, left_row);
    _tile_loadd(6, to, right_row);
    _tile_dpbf16ps(0, 4, 6);
    if (kColumns > 1) {
      _tile_loadd(7, to + kBytes, right_row);
      _tile_dpbf16ps(1, 4, 7);
    }
    if (kRows > 1) {
      _tile_loadd(5, from + kTileSide * left_row, left_row);
      _tile_dpbf16ps(2, 5, 6);
      if (kColumns > 1) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, sums, sums_row);
  if (kColumns > 1) _tile_stored(1, sums + kBytes, sums_row);
  if (kRows > 1) _tile_stored(2, below, sums_row);
  if (kRows > 1 && kColumns > 1) _tile_stored(3, below + kBytes, sums_row);
}

// The same with numbers of tiles that are only known when it runs, 1 or 2.
inline void add_tiles(int rows, int columns, const char* left, long left_row, const char* right, long right_row,
                      long right_step, int steps, char* sums, long sums_row, bool add) {
  if (rows > 1 && columns > 1)
    add_tiles<2, 2>(left, left_row, right, right_row, right_step, steps, sums, sums_row, add);
  else if (rows > 1)
    add_tiles<2, 1>(left, left_row, right, right_row, right_step, steps, sums, sums_row, add);
  else if (columns > 1)
    add_tiles<1, 2>(left, left_row, right, right_row, right_step, steps, sums, sums_row, add);
  else
    add_tiles<1, 1>(left, left_row, right, right_row, right_step, steps, sums, sums_row, add);
}

// Rows become columns: 16 × 16 numbers of 32 bits from `rows` to `to`, whose rows are `stride` numbers apart.
inline void transpose(__m512i rows[16], uint32_t* to, long stride) {
  __m512i pairs[16];
  for (int i = 0; i < 16; i += 4) {
    const __m512i low = _mm512_unpacklo_epi32(rows[i], rows[i + 1]), high = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    const __m512i next_low = _mm512_unpacklo_epi32(rows[i + 2], rows[i + 3]);
    const __m512i next_high = _mm512_unpackhi_epi32(rows[i + 2], rows[i + 3]);
    pairs[i] = _mm512_unpacklo_epi64(low, next_low);
    pairs[i + 1] = _mm512_unpackhi_epi64(low, next_low);
    pairs[i + 2] = _mm512_unpacklo_epi64(high, next_high);
    pairs[i + 3] = _mm512_unpackhi_epi64(high, next_high);
  }
  // Now pairs[4 r + c] holds, of rows 4 r to 4 r + 3, the columns c, c + 4, c + 8, c + 12, four numbers each.
  for (int c = 0; c < 4; ++c) {
    const __m512i first = _mm512_shuffle_i32x4(pairs[c], pairs[4 + c], 0x88);
    const __m512i second = _mm512_shuffle_i32x4(pairs[c], pairs[4 + c], 0xDD);
    const __m512i third = _mm512_shuffle_i32x4(pairs[8 + c], pairs[12 + c], 0x88);
    const __m512i fourth = _mm512_shuffle_i32x4(pairs[8 + c], pairs[12 + c], 0xDD);
    _mm512_storeu_si512(to + c * stride, _mm512_shuffle_i32x4(first, third, 0x88));
    _mm512_storeu_si512(to + (c + 4) * stride, _mm512_shuffle_i32x4(second, fourth, 0x88));
    _mm512_storeu_si512(to + (c + 8) * stride, _mm512_shuffle_i32x4(first, third, 0xDD));
    _mm512_storeu_si512(to + (c + 12) * stride, _mm512_shuffle_i32x4(second, fourth, 0xDD));
  }
}
#else
struct Tiles {
  Tiles() {}  // with a body, so that holding one is no unused variable
};
inline bool tiles_work() { return false; }
#endif
