// The grid of one picture, and what its sites see.
#pragma once

#include <algorithm>
#include <vector>

#include "firing.h"
#include "products.h"

// Within the engine a state is [batch, rows, channels / kPad, columns, kPad]: of kPad channels at a time, the
// sites of a row lie side by side. A walk over sites with a few channels then is a walk through memory, where
// [.., columns, channels] would put neighbours a power of two apart, which a cache holds few of.

// One call of the engine. Memory belongs to the caller; channels are padded to multiples of kPad and hidden of
// kDeepPad, with zeros in state and weights. The fields are repeated in library.py.
struct Job {
  int batch, rows, columns, channels, hidden, first, last, threads;
  uint32_t threshold;      // of 2^24: see leukonca/nca/firing.py
  uintptr_t keys;  // int32 [batch]: hash after seed and image
  uintptr_t state;  // float32, as said above, changed in place
  uintptr_t filters;  // float32 [20, channels]: nine weights of A, nine of B, bias of A, of B
  uintptr_t hidden_weight;  // float32 [hidden, 3 * channels]
  uintptr_t hidden_bias;  // float32 [hidden]
  uintptr_t update;  // float32 [channels, hidden]
  uintptr_t tape;  // Number [firing sites, hidden]: the hidden layer, for the backward pass; or 0
  uintptr_t tape_starts;  // int64 [batch]: where a picture's part of the tape begins
  // Only for the backward pass:
  uintptr_t gradient;  // float32, like state: of the last state, becomes that of the first
  uintptr_t filters_gradient, hidden_weight_gradient, hidden_bias_gradient, update_gradient;  // added to
};

template <class T>
T* at(uintptr_t address) { return reinterpret_cast<T*>(address); }

// Some neighbouring rows of a grid, as one thread works on them. What the rows beside it held before the
// step is in `above` and `below`, since other threads change them meanwhile.
struct Band {
  float* state;
  int rows, columns, channels, first, last;
  const float *above = nullptr, *below = nullptr;

  long line() const { return static_cast<long>(columns) * channels; }

  // From the first channel of a site to another one, which is that of a whole vector.
  long to_channel(int channel) const { return static_cast<long>(channel / kPad) * columns * kPad + channel % kPad; }

  const float* row(int r) const {
    if (r < 0) r = 1;  // reflected
    if (r >= rows) r = rows - 2;
    if (r < first) return above;
    if (r >= last) return below;
    return state + r * line();
  }

  // Writes where the states of some sites begin, counted from that of the first site.
  void find(const int* sites, int number, long* offsets) const {
    for (int s = 0; s < number; ++s) {
      const int row = sites[s] / columns;
      offsets[s] = row * line() + static_cast<long>(sites[s] - row * columns) * kPad;
    }
  }
};

// Up to kBlock firing sites with the addresses of the nine states that each one sees, row by row.
struct Neighbourhoods {
  int count = 0;
  const float* around[kBlock][9];

  void find(const Band& band, const int* sites, int number) {
    count = number;
    const int columns = band.columns;
    for (int s = 0; s < number; ++s) {
      const int row = sites[s] / columns, column = sites[s] % columns;
      const int left = column == 0 ? 1 : column - 1, right = column == columns - 1 ? columns - 2 : column + 1;
      for (int i = 0; i < 3; ++i) {
        const float* line = band.row(row - 1 + i);
        around[s][3 * i] = line + static_cast<long>(left) * kPad;
        around[s][3 * i + 1] = line + static_cast<long>(column) * kPad;
        around[s][3 * i + 2] = line + static_cast<long>(right) * kPad;
      }
    }
  }
};

constexpr int kFew = 16;

// Writes [own state, convolution A, convolution B] of each site: [count, 3 * channels], rows deep(3 * channels) apart.
template <class Format>
void perceive(const Band& band, const Neighbourhoods& near, const float* filters, typename Format::Number* seen) {
  const int channels = band.channels;
  const long stride = deep(3 * channels);
  // Channels outside, sites inside: the filters of one vector of channels stay in registers. Of few sites at a
  // time, so that what is written stays in the first cache until its lines are full.
  for (int start = 0; start < near.count; start += kFew) {
    const int end = std::min(near.count, start + kFew);
    for (int c = 0; c < channels; c += kWidth) {
      const long there = band.to_channel(c);
      Vec weight[20];
#pragma GCC unroll 20
      for (int i = 0; i < 20; ++i) weight[i] = load(filters + i * channels + c);
      for (int s = start; s < end; ++s) {
        Vec a = weight[18], b = weight[19];
#pragma GCC unroll 9
        for (int i = 0; i < 9; ++i) {
          const Vec value = load(near.around[s][i] + there);
          a += weight[i] * value;
          b += weight[9 + i] * value;
        }
        typename Format::Number* to = seen + s * stride + c;
        Format::put(to, load(near.around[s][4] + there));
        Format::put(to + channels, a);
        Format::put(to + 2 * channels, b);
      }
    }
  }
}

// The blocks of a step's firing sites, in order, each in two stages. The second stage changes the grid, so
// it waits until no later block looks at what it changes; `slot` says where a block keeps its work meanwhile.
template <class First, class Second>
void in_two_stages(const int* sites, int count, int columns, First&& first, Second&& second) {
  const int blocks = (count + kBlock - 1) / kBlock;
  const auto size = [&](int block) { return std::min(kBlock, count - block * kBlock); };
  int done = 0;
  for (int block = 0; block < blocks; ++block) {
    first(block, size(block));
    // A site sees the sites up to columns + 1 positions before it.
    const int next = block + 1 < blocks ? sites[(block + 1) * kBlock] - columns - 1 : INT32_MAX;
    for (; done <= block && sites[done * kBlock + size(done) - 1] < next; ++done) second(done, size(done));
  }
}

// How many blocks can be between their stages.
inline int waiting_blocks(int columns) { return (columns + 1) / kBlock + 2; }
