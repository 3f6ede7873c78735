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

// Some sites as one side of a sum over them: lanes, each of kPerLane neighbouring sites.
template <class Format>
struct Joined {
  using Lane = typename Format::Lane;
  using Number = typename Format::Number;
  const Lane* lanes;
  long stride;  // between rows

  // Of [count, width] numbers with rows `apart` numbers apart. A row of the result is of the same sites, a column
  // of the same number. Written, if need be, to `room`, which holds kBlock · width numbers.
  Joined(const Number* rows, int count, int width, long apart, Lane* room) {
    if constexpr (Format::kPerLane == 1) {
      lanes = rows, stride = apart;
    } else {
      for (int i = 0; i < lanes_of<Format>(count); ++i)
        for (int j = 0; j < width; j += kWidth)
          Format::store_lanes(room + static_cast<long>(i) * width + j, pair(rows + j, 2 * i, count, apart));
      lanes = room, stride = width;
    }
  }

#if defined(LEUKONCA_TILES)
  // The same with rows and columns exchanged, for the left side of tiles.
  static Joined turned(const Number* rows, int count, int width, long apart, Lane* room) {
    for (int i = 0; i < lanes_of<Format>(count); i += kTileSide)
      for (int j = 0; j < width; j += kWidth) {
        __m512i pairs[kTileSide];
        for (int k = 0; k < kTileSide; ++k) pairs[k] = pair(rows + j, 2 * (i + k), count, apart);
        transpose(pairs, room + static_cast<long>(j) * (kBlock / 2) + i, kBlock / 2);
      }
    return Joined(room, kBlock / 2);
  }
#endif

 private:
  Joined(const Lane* lanes, long stride) : lanes(lanes), stride(stride) {}

  static typename Format::LaneVec pair(const Number* rows, int site, int count, long apart) {
    return Format::join(site < count ? rows + site * apart : nullptr, site + 1 < count ? rows + (site + 1) * apart : nullptr);
  }
};

// sums[m, n] += Σ over `count` sites of left[site, m] · right[site, n]; m and n are multiples of kPad. The left side
// has rows left_apart numbers apart and gets room as Joined does.
template <class Format>
void add_outer(int m, int n, int count, const typename Format::Number* left, long left_apart,
               typename Format::Lane* left_room, const Joined<Format>& right, float* sums) {
  const int lanes = lanes_of<Format>(count);
#if defined(LEUKONCA_TILES)
  if constexpr (Format::kPerLane == 2) {
    if (tiles_work()) {
      const auto turned = Joined<Format>::turned(left, count, m, left_apart, left_room);
      runs(n / kWidth, [&](int first, int width) {
        for (int row = 0; row < m; row += 2 * kTileSide)
          add_tiles(row + kTileSide < m ? 2 : 1, width, reinterpret_cast<const char*>(turned.lanes + row * turned.stride),
                    4 * turned.stride, reinterpret_cast<const char*>(right.lanes + first * kWidth), 4 * right.stride,
                    4 * right.stride * kTileSide, lanes / kTileSide,
                    reinterpret_cast<char*>(sums + static_cast<long>(row) * n + first * kWidth), 4L * n, true);
      });
      return;
    }
  }
#endif
  const Joined<Format> joined(left, count, m, left_apart, left_room);
  runs(n / kWidth, [&](int first, int width) {
    for (int row = 0; row < m; row += kTileRows)
      tile_of<Format>(width, joined.lanes + row, 1, joined.stride, right.lanes + first * kWidth, right.stride, lanes,
                      [&](int r, int column, Vec value) {
                        float* to = sums + static_cast<long>(row + r) * n + first * kWidth + column;
                        store(to, load(to) + value);
                      });
  });
}
