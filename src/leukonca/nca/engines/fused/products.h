// Matrix products of a block of sites with small weights.
#pragma once

#include <algorithm>
#include <vector>

#include "tiles.h"

// Sites that are computed together.
constexpr int kBlock = 64;

// A panel of weights is as wide, in vectors, as the sums that are kept in registers.
#if defined(LEUKONCA_TILES)
constexpr int kPanel = 2;
#else
constexpr int kPanel = 3;
#endif

// Hidden units are padded to whole multiples of this, and so is what sites see: whole tiles are multiplied.
#if defined(LEUKONCA_TILES)
constexpr int kDeepPad = kTileDepth;
#else
constexpr int kDeepPad = kPad;
#endif

inline int deep(int numbers) { return (numbers + kDeepPad - 1) / kDeepPad * kDeepPad; }

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
  // multiples of kPad; zeros follow up to deep(depth).
  Panels(int depth, int columns, const float* source, long row_stride, long column_stride)
      : depth_(deep(depth) / Format::kPerLane), columns_(columns), data_(static_cast<size_t>(depth_) * columns) {
    const int given = depth / Format::kPerLane;
    Lane* to = data_.data();
    runs(columns / kWidth, [&](int first, int width) {
      for (int i = 0; i < depth_; ++i, to += width * kWidth)
        for (int column = first * kWidth; column < (first + width) * kWidth && i < given; ++column) {
          Number pair[Format::kPerLane];
          for (int j = 0; j < Format::kPerLane; ++j)
            pair[j] = Format::round(source[(i * Format::kPerLane + j) * row_stride + column * column_stride]);
          std::memcpy(to + column - first * kWidth, pair, sizeof(Lane));
        }
    });
  }

  // left [rows, deep(depth)] (row_stride numbers apart) times the weights; `out(row, column, value)` gets each
  // vector. left must be readable, though not meaningful, up to kBlock rows.
  template <class Out>
  void multiply(int rows, const Number* left, long row_stride, Out&& out) const {
    const Lane* panel = data_.data();
    const Lane* lanes = reinterpret_cast<const Lane*>(left);
    const long lane_stride = row_stride / Format::kPerLane;
    runs(columns_ / kWidth, [&](int first, int width) {
#if defined(LEUKONCA_TILES)
      if (Format::kPerLane == 2 && tiles_work()) {
        alignas(64) float sums[2 * kTileSide * 2 * kTileSide];
        const long line = width * kWidth;
        for (int start = 0; start < rows; start += 2 * kTileSide) {
          const int here = std::min(rows - start, 2 * kTileSide);
          add_tiles((here + kTileSide - 1) / kTileSide, width, reinterpret_cast<const char*>(left + start * row_stride),
                    2 * row_stride, reinterpret_cast<const char*>(panel), 4 * line, 4 * line * kTileSide,
                    depth_ / kTileSide, reinterpret_cast<char*>(sums), 4 * line, false);
          for (int row = 0; row < here; ++row)
            for (int column = 0; column < line; column += kWidth)
              out(start + row, first * kWidth + column, load(sums + row * line + column));
        }
        panel += depth_ * line;
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

// How many lanes hold so many sites; with tiles, whole tiles, filled up with zeros.
template <class Format>
int lanes_of(int count) {
#if defined(LEUKONCA_TILES)
  if (Format::kPerLane == 2) return (count + kTileDepth - 1) / kTileDepth * kTileSide;
#endif
  return (count + Format::kPerLane - 1) / Format::kPerLane;
}

// sums[m, n] += Σ over sites of left[site, m] · right[site, n]; m and n are multiples of kPad. What is summed over
// are blocks of sites. With tiles some blocks are gathered first, since to load and store the sums takes longer
// than to multiply one block.
template <class Format>
class OuterSums {
  using Lane = typename Format::Lane;
  using Number = typename Format::Number;

 public:
  OuterSums(int m, int n) : m_(m), n_(n), sums_(static_cast<size_t>(m) * n) {
    if (Format::kPerLane == 1) return;  // rows are taken as they are
    left_ = Buffer<Lane>(static_cast<size_t>(kGathered) * m);
    right_ = Buffer<Lane>(static_cast<size_t>(kGathered) * n);
  }

  // Adds `count` sites, at most kBlock: left [count, m] and right [count, n], rows so many numbers apart.
  void add(int count, const Number* left, long left_apart, const Number* right, long right_apart) {
    const int lanes = lanes_of<Format>(count);
    if constexpr (Format::kPerLane == 1) {
      add_vectors(left, left_apart, right, right_apart, lanes);
    } else {
      for (int i = 0; i < lanes; ++i)
        for (int j = 0; j < n_; j += kWidth)
          Format::store_lanes(right_.data() + static_cast<long>(filled_ + i) * n_ + j, pair(right + j, 2 * i, count, right_apart));
#if defined(LEUKONCA_TILES)
      if (tiles_work()) {
        for (int i = 0; i < lanes; i += kTileSide)
          for (int j = 0; j < m_; j += kWidth) {
            __m512i pairs[kTileSide];
            for (int k = 0; k < kTileSide; ++k) pairs[k] = pair(left + j, 2 * (i + k), count, left_apart);
            transpose(pairs, left_.data() + static_cast<long>(j) * kGathered + filled_ + i, kGathered);
          }
        filled_ += lanes;
        if (filled_ + kBlock / 2 > kGathered) finish();
        return;
      }
#endif
      for (int i = 0; i < lanes; ++i)
        for (int j = 0; j < m_; j += kWidth)
          Format::store_lanes(left_.data() + static_cast<long>(i) * m_ + j, pair(left + j, 2 * i, count, left_apart));
      add_vectors(left_.data(), m_, right_.data(), n_, lanes);
    }
  }

  // To be called before the sums are read, by the thread that added.
  void finish() {
#if defined(LEUKONCA_TILES)
    if (!filled_) return;
    runs(n_ / kWidth, [&](int first, int width) {
      for (int row = 0; row < m_; row += 2 * kTileSide)
        add_tiles(row + kTileSide < m_ ? 2 : 1, width,
                  reinterpret_cast<const char*>(left_.data() + static_cast<long>(row) * kGathered), 4L * kGathered,
                  reinterpret_cast<const char*>(right_.data() + first * kWidth), 4L * n_, 4L * n_ * kTileSide,
                  filled_ / kTileSide, reinterpret_cast<char*>(sums_.data() + static_cast<long>(row) * n_ + first * kWidth),
                  4L * n_, true);
    });
    filled_ = 0;
#endif
  }

  const Buffer<float>& sums() const { return sums_; }

 private:
  // Lanes of the sites that are gathered: of four blocks, with tiles.
  static constexpr int kGathered = (kDeepPad > kPad ? 4 : 1) * kBlock / 2;

  static typename Format::LaneVec pair(const Number* rows, int site, int count, long apart) {
    return Format::join(site < count ? rows + site * apart : nullptr, site + 1 < count ? rows + (site + 1) * apart : nullptr);
  }

  void add_vectors(const Lane* left, long left_stride, const Lane* right, long right_stride, int lanes) {
    runs(n_ / kWidth, [&](int first, int width) {
      for (int row = 0; row < m_; row += kTileRows)
        tile_of<Format>(width, left + row, 1, left_stride, right + first * kWidth, right_stride, lanes,
                        [&](int r, int column, Vec value) {
                          float* to = sums_.data() + static_cast<long>(row + r) * n_ + first * kWidth + column;
                          store(to, load(to) + value);
                        });
    });
  }

  int m_, n_, filled_ = 0;
  Buffer<float> sums_;
  Buffer<Lane> left_, right_;
};
