// From PyTorch's [batch, channels, rows, columns] to the engine's layout (see grid.h) and back.
#pragma once

#include "grid.h"

// Calls `each(plain, packed, count)` for each row of every kPad channels of a picture: `count` channels are real.
// `plain` is the first channel's row of columns, `packed` the row's [columns, kPad].
template <class Plain, class Packed, class Each>
void each_row(Plain* plain, Packed* packed, int batch, int channels, int rows, int columns, int threads, Each&& each) {
  const int planes = (channels + kPad - 1) / kPad;
  const long grid = static_cast<long>(rows) * columns;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int picture = 0; picture < batch; ++picture)
    for (int row = 0; row < rows; ++row)
      for (int plane = 0; plane < planes; ++plane)
        each(plain + (static_cast<long>(picture) * channels + plane * kPad) * grid + static_cast<long>(row) * columns,
             packed + ((static_cast<long>(picture) * rows + row) * planes + plane) * columns * kPad,
             channels - plane * kPad < kPad ? channels - plane * kPad : kPad);
}

inline void pack(const float* plain, float* packed, int batch, int channels, int rows, int columns, int threads) {
  const long grid = static_cast<long>(rows) * columns;
  each_row(plain, packed, batch, channels, rows, columns, threads, [&](const float* from, float* to, int count) {
    for (int column = 0; column < columns; ++column)
      for (int k = 0; k < kPad; ++k) to[column * kPad + k] = k < count ? from[k * grid + column] : 0.0f;
  });
}

inline void unpack(const float* packed, float* plain, int batch, int channels, int rows, int columns, int threads) {
  const long grid = static_cast<long>(rows) * columns;
  each_row(plain, packed, batch, channels, rows, columns, threads, [&](float* to, const float* from, int count) {
    for (int k = 0; k < count; ++k)
      for (int column = 0; column < columns; ++column) to[k * grid + column] = from[column * kPad + k];
  });
}
