// Whole rollouts, forwards.
#pragma once

#if defined(_OPENMP)
#include <omp.h>
#endif

#include "grid.h"

inline int this_thread() {
#if defined(_OPENMP)
  return omp_get_thread_num();
#else
  return 0;
#endif
}

inline int team() {
#if defined(_OPENMP)
  return omp_get_num_threads();
#else
  return 1;
#endif
}

// Fewer rows than this are not worth a thread of their own.
constexpr int kLeastRows = 4;

template <class Format>
class Forward {
 public:
  using Number = typename Format::Number;

  explicit Forward(const Job& job)
      : job_(job),
        to_hidden_(3 * job.channels, job.hidden, at<float>(job.hidden_weight), 1, 3 * job.channels),
        to_state_(job.hidden, job.channels, at<float>(job.update), 1, job.hidden) {
    for (int i = 0; i < job.threads; ++i) rooms_.emplace_back(job);
  }

  void run() {
    const int threads = job_.threads, most_bands = std::min(threads, std::max(1, job_.rows / kLeastRows));
    // Each thread takes whole pictures; those that do not divide evenly are divided by rows instead.
    const int whole = job_.tape || most_bands == 1 ? job_.batch : job_.batch - job_.batch % threads;
#pragma omp parallel num_threads(threads)
    {
      const Tiles tiles;
      Room& room = rooms_[this_thread()];
#pragma omp for schedule(dynamic)
      for (int picture = 0; picture < whole; ++picture) {
        Band band = band_of(picture, 0, 1);
        Number* tape = job_.tape ? at<Number>(job_.tape) + at<int64_t>(job_.tape_starts)[picture] * job_.hidden : nullptr;
        for (int step = job_.first; step < job_.last; ++step) {
          const int count = this->step(picture, step, band, room, tape);
          if (tape) tape += static_cast<long>(count) * job_.hidden;
        }
      }
    }
    for (int picture = whole; picture < job_.batch; ++picture) {
#pragma omp parallel num_threads(most_bands)
      {
        const Tiles tiles;
        const int bands = team();  // OpenMP may give fewer threads than it is asked for
        Room& room = rooms_[this_thread()];
        Band band = band_of(picture, this_thread(), bands);
        const long line = band.line();
        band.above = room.beside.data();
        band.below = room.beside.data() + line;
        for (int step = job_.first; step < job_.last; ++step) {
          if (band.first > 0) std::copy_n(band.state + (band.first - 1) * line, line, room.beside.data());
          if (band.last < band.rows) std::copy_n(band.state + band.last * line, line, room.beside.data() + line);
#pragma omp barrier
          this->step(picture, step, band, room, nullptr);
#pragma omp barrier
        }
      }
    }
  }

 private:
  // What one thread needs.
  struct Room {
    explicit Room(const Job& job)
        : sites(static_cast<size_t>(job.rows) * job.columns + 1),
          seen(static_cast<size_t>(kBlock) * deep(3 * job.channels)),
          hidden(static_cast<size_t>(waiting_blocks(job.columns)) * kBlock * job.hidden),
          beside(static_cast<size_t>(2) * job.columns * job.channels) {}
    Buffer<int> sites;
    Buffer<Number> seen, hidden;
    Buffer<float> beside;
    Neighbourhoods near;
  };

  Band band_of(int picture, int index, int bands) const {
    return {at<float>(job_.state) + static_cast<long>(picture) * job_.rows * job_.columns * job_.channels,
            job_.rows, job_.columns, job_.channels, job_.rows * index / bands, job_.rows * (index + 1) / bands};
  }

  // Returns how many sites fired; `tape` keeps the hidden layer of each where it is wanted.
  int step(int picture, int step, const Band& band, Room& room, Number* tape) const {
    int* sites = room.sites.data();
    const int channels = job_.channels, hidden = job_.hidden, slots = waiting_blocks(job_.columns);
    const int count = firing_sites(at<uint32_t>(job_.keys)[picture], step, band.first, band.last, band.columns,
                                   job_.threshold, sites);
    const auto slot = [&](int block) {
      return tape ? tape + static_cast<long>(block) * kBlock * hidden
                  : room.hidden.data() + static_cast<long>(block % slots) * kBlock * hidden;
    };
    in_two_stages(
        sites, count, job_.columns,
        [&](int block, int number) {
          room.near.find(band, sites + block * kBlock, number);
          perceive<Format>(band, room.near, at<float>(job_.filters), room.seen.data());
          Number* to = slot(block);
          const float* bias = at<float>(job_.hidden_bias);
          to_hidden_.multiply(number, room.seen.data(), deep(3 * channels), [&](int row, int column, Vec value) {
            Format::put(to + static_cast<long>(row) * hidden + column, relu(value + load(bias + column)));
          });
        },
        [&](int block, int number) {
          long offsets[kBlock];
          band.find(sites + block * kBlock, number, offsets);
          to_state_.multiply(number, slot(block), hidden, [&](int row, int column, Vec value) {
            float* site = band.state + offsets[row] + band.to_channel(column);
            store(site, load(site) + value);
          });
        });
    return count;
  }

  const Job& job_;
  Panels<Format> to_hidden_, to_state_;
  std::vector<Room> rooms_;
};
