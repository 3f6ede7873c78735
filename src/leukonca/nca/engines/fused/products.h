// Matrix products of a block of sites with small weights.
#pragma once

#include <algorithm>
#include <vector>

#include "vectors.h"

#if defined(LEUKONCA_BRGEMM)
#include "brgemm.h"
#endif

// To be called by every thread after its last product.
inline void products_done() {
#if defined(LEUKONCA_BRGEMM)
  if (brgemm_works()) brgemm_done();
#endif
}

// Sites that are computed together. Constant, since ATen's brgemm compiles a kernel for every new height.
constexpr int kBlock = 64;

// A panel of weights is as wide as a register tile.
#if defined(LEUKONCA_BRGEMM)
constexpr int kPanel = 4;
#else
constexpr int kPanel = 3;
#endif

// kTileRows × (kColumns · kWidth) outputs, accumulated in registers. `out(row, column, value)` gets each vector.
// Left lanes are at left[row * row_stride + i * step_stride], right ones at right[i * right_stride + column].
template <class Format, int kColumns, class Out>
inline __attribute__((always_inline)) void tile(
    const typename Format::Lane* left, long row_stride, long step_stride, const typename Format::Lane* right,
    long right_stride, long steps, Out&& out) {
  Vec sum[kTileRows][kColumns] = {};
  for (long i = 0; i < steps; ++i) {
    typename Format::LaneVec columns[kColumns];
#pragma GCC unroll 4
    for (int column = 0; column < kColumns; ++column)
      columns[column] = Format::lanes(right + i * right_stride + column * kWidth);
#pragma GCC unroll 8
    for (int row = 0; row < kTileRows; ++row) {
      const auto value = Format::spread(left + row * row_stride + i * step_stride);
#pragma GCC unroll 4
      for (int column = 0; column < kColumns; ++column)
        sum[row][column] = Format::multiply_add(value, columns[column], sum[row][column]);
    }
  }
#pragma GCC unroll 8
  for (int row = 0; row < kTileRows; ++row)
#pragma GCC unroll 4
    for (int column = 0; column < kColumns; ++column) out(row, column * kWidth, sum[row][column]);
}

// Calls tile() with a number of vectors that is only known when it runs.
template <class Format, class Out>
inline __attribute__((always_inline)) void tile_of(
    int columns, const typename Format::Lane* left, long row_stride, long step_stride,
    const typename Format::Lane* right, long right_stride, long steps, Out&& out) {
  switch (columns) {
    case 1: tile<Format, 1>(left, row_stride, step_stride, right, right_stride, steps, out); break;
    case 2: tile<Format, 2>(left, row_stride, step_stride, right, right_stride, steps, out); break;
    default: tile<Format, 3>(left, row_stride, step_stride, right, right_stride, steps, out); break;
#if defined(LEUKONCA_BRGEMM)
    case 4: tile<Format, 4>(left, row_stride, step_stride, right, right_stride, steps, out); break;
#endif
  }
}

// Divides `vectors` into the fewest even runs of at most kPanel; calls `each(first, count)`.
template <class Each>
inline void runs(int vectors, Each&& each) {
  const int count = (vectors + kPanel - 1) / kPanel;
  for (int i = 0, first = 0; i < count; ++i) {
    const int width = (vectors - first + count - i - 1) / (count - i);
    each(first, width);
    first += width;
  }
}

// The right-hand side of a product with constant weights: [depth, columns], stored panel by panel, so that
// reading it is one straight walk. With bf16, the numbers of two neighbouring rows are side by side (VNNI).
template <class Format>
class Panels {
 public:
  using Lane = typename Format::Lane;
  using Number = typename Format::Number;

  Panels() = default;
  // The weight at (row, column) is source[row * row_stride + column * column_stride]. depth and columns are
  // multiples of kPad.
  Panels(int depth, int columns, const float* source, long row_stride, long column_stride)
      : depth_(depth / Format::kPerLane), columns_(columns), data_(static_cast<size_t>(depth_) * columns) {
    Lane* to = data_.data();
    runs(columns / kWidth, [&](int first, int width) {
      for (int i = 0; i < depth_; ++i)
        for (int column = first * kWidth; column < (first + width) * kWidth; ++column, ++to) {
          Number pair[Format::kPerLane];
          for (int j = 0; j < Format::kPerLane; ++j)
            pair[j] = Format::round(source[(i * Format::kPerLane + j) * row_stride + column * column_stride]);
          std::memcpy(to, pair, sizeof(Lane));
        }
    });
  }

  // left [rows, depth] (row_stride numbers apart) times the weights; `out(row, column, value)` gets each vector.
  // left must be readable, though not meaningful, up to kBlock rows.
  template <class Out>
  void multiply(int rows, const Number* left, long row_stride, Out&& out) const {
    const Lane* panel = data_.data();
    const Lane* lanes = reinterpret_cast<const Lane*>(left);
    const long lane_stride = row_stride / Format::kPerLane;
    runs(columns_ / kWidth, [&](int first, int width) {
#if defined(LEUKONCA_BRGEMM)
      if (Format::kPerLane == 2 && brgemm_works()) {
        alignas(64) static thread_local float sums[kBlock * kPanel * kWidth];
        const int wide = width * kWidth;
        brgemm_bf16(kBlock, wide, depth_ * 2, row_stride, reinterpret_cast<const uint16_t*>(left),
                    reinterpret_cast<const uint32_t*>(panel), sums);
        for (int row = 0; row < rows; ++row)
          for (int column = 0; column < wide; column += kWidth)
            out(row, first * kWidth + column, load(sums + row * wide + column));
        panel += static_cast<long>(depth_) * wide;
        return;
      }
#endif
      for (int row = 0; row < rows; row += kTileRows)
        tile_of<Format>(width, lanes + row * lane_stride, lane_stride, 1, panel, width * kWidth, depth_,
                        [&](int r, int column, Vec value) {
                          if (row + r < rows) out(row + r, first * kWidth + column, value);
                        });
      panel += static_cast<long>(depth_) * width * kWidth;
    });
  }

 private:
  int depth_ = 0, columns_ = 0;
  Buffer<Lane> data_;
};

// sums[m, n] += Σ over sites of left[site, m] · right[site, n]; m and n are multiples of kPad. Both sides are
// in lanes of sites: [sites / kPerLane, m] and [sites / kPerLane, n] (see join_sites).
template <class Format>
void add_outer(int m, int n, int lanes, const typename Format::Lane* left, const typename Format::Lane* right, float* sums) {
  runs(n / kWidth, [&](int first, int width) {
    for (int row = 0; row < m; row += kTileRows)
      tile_of<Format>(width, left + row, 1, m, right + first * kWidth, n, lanes, [&](int r, int column, Vec value) {
        float* to = sums + static_cast<long>(row + r) * n + first * kWidth + column;
        store(to, load(to) + value);
      });
  });
}
