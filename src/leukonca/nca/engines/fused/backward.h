// Gradients of whole rollouts, backwards from the last state.
//
// The forward pass kept only the hidden layer of the sites that fired (the tape). From it the steps are undone
// one by one (state -= update · hidden), so that no state has to be stored, and everything else is computed again.
#pragma once

#include "forward.h"

template <class Format>
class Backward {
 public:
  using Number = typename Format::Number;

  explicit Backward(const Job& job)
      : job_(job),
        to_state_(job.hidden, job.channels, at<float>(job.update), 1, job.hidden),
        from_state_(job.channels, job.hidden, at<float>(job.update), job.hidden, 1),
        from_hidden_(job.hidden, 3 * job.channels, at<float>(job.hidden_weight), 3 * job.channels, 1) {
    for (int i = 0; i < job.threads; ++i) rooms_.emplace_back(job);
  }

  void run() {
    // Static, and added up in the order of the threads: the same numbers every time.
#pragma omp parallel num_threads(job_.threads)
    {
      const Tiles tiles;
      Room& room = rooms_[this_thread()];
      const long size = static_cast<long>(job_.rows) * job_.columns * job_.channels;
#pragma omp for schedule(static)
      for (int picture = 0; picture < job_.batch; ++picture) {
        const Band band{at<float>(job_.state) + picture * size, job_.rows, job_.columns, job_.channels, 0, job_.rows};
        const int64_t* starts = at<int64_t>(job_.tape_starts);
        const Number* tape = at<Number>(job_.tape) + starts[picture + 1] * job_.hidden;
        for (int step = job_.last - 1; step >= job_.first; --step)
          tape = this->step(picture, step, band, at<float>(job_.gradient) + picture * size, room, tape);
      }
      room.hidden_weight.finish();
      room.update.finish();
    }
    for (const Room& room : rooms_) {
      add(room.filters, job_.filters_gradient);
      add(room.hidden_weight.sums(), job_.hidden_weight_gradient);
      add(room.hidden_bias, job_.hidden_bias_gradient);
      add(room.update.sums(), job_.update_gradient);
    }
  }

 private:
  struct Room {
    explicit Room(const Job& job) : Room(job.channels, job.hidden, job.columns, job.rows * job.columns) {}
    Room(size_t channels, size_t hidden, int columns, size_t all)
        : sites(all + 1),
          seen(static_cast<size_t>(kBlock) * deep(3 * channels)),
          state_gradient(static_cast<size_t>(kBlock) * deep(channels)),
          hidden_gradient(waiting_blocks(columns) * kBlock * hidden),
          seen_gradient(kBlock * 3 * channels),
          filters(20 * channels),
          hidden_weight(static_cast<int>(hidden), static_cast<int>(3 * channels)),
          hidden_bias(hidden),
          update(static_cast<int>(channels), static_cast<int>(hidden)) {}
    Buffer<int> sites;
    Buffer<Number> seen, state_gradient, hidden_gradient;
    Buffer<float> seen_gradient;
    // This thread's sums.
    Buffer<float> filters;
    OuterSums<Format> hidden_weight;
    Buffer<float> hidden_bias;
    OuterSums<Format> update;
    Neighbourhoods near;
  };

  static void add(const Buffer<float>& sums, uintptr_t to) {
    for (size_t i = 0; i < sums.size(); ++i) at<float>(to)[i] += sums[i];
  }

  // Turns state and gradient after a step into those before it. `tape` is where the step's part ends;
  // returns where it begins.
  const Number* step(int picture, int step, const Band& band, float* gradient, Room& room, const Number* tape) const {
    int* sites = room.sites.data();
    const int channels = job_.channels, hidden = job_.hidden, slots = waiting_blocks(job_.columns);
    const int count =
        firing_sites(at<uint32_t>(job_.keys)[picture], step, 0, band.rows, band.columns, job_.threshold, sites);
    tape -= static_cast<long>(count) * hidden;

    long offsets[kBlock];
    for (int start = 0; start < count; start += kBlock) {
      const int number = std::min(kBlock, count - start);
      band.find(sites + start, number, offsets);
      to_state_.multiply(number, tape + static_cast<long>(start) * hidden, hidden,
                         [&](int row, int column, Vec value) {
                           float* site = band.state + offsets[row] + band.to_channel(column);
                           store(site, load(site) - value);
                         });
    }

    const auto slot = [&](int block) {
      return room.hidden_gradient.data() + static_cast<long>(block % slots) * kBlock * hidden;
    };
    in_two_stages(
        sites, count, job_.columns,
        [&](int block, int number) {
          const Number* active = tape + static_cast<long>(block) * kBlock * hidden;
          band.find(sites + block * kBlock, number, offsets);
          through_update(band, offsets, number, gradient, active, slot(block), room);
          room.near.find(band, sites + block * kBlock, number);
          perceive<Format>(band, room.near, at<float>(job_.filters), room.seen.data());
          room.hidden_weight.add(number, slot(block), hidden, room.seen.data(), deep(3 * channels));
        },
        [&](int block, int number) {
          from_hidden_.multiply(number, slot(block), hidden, [&](int row, int column, Vec value) {
            store(room.seen_gradient.data() + static_cast<long>(row) * 3 * channels + column, value);
          });
          room.near.find(band, sites + block * kBlock, number);
          through_perception(band, gradient, room);
        });
    return tape;
  }

  // From the gradient of some sites' states to that of their hidden layers, and of the update's weights.
  void through_update(const Band& band, const long* offsets, int number, const float* gradient, const Number* active,
                      Number* hidden_gradient, Room& room) const {
    const int channels = job_.channels, hidden = job_.hidden;
    for (int s = 0; s < number; ++s)
      for (int c = 0; c < channels; c += kWidth)
        Format::put(room.state_gradient.data() + s * deep(channels) + c, load(gradient + offsets[s] + band.to_channel(c)));
    from_state_.multiply(number, room.state_gradient.data(), deep(channels), [&](int row, int column, Vec value) {
      const long place = static_cast<long>(row) * hidden + column;
      value = Format::get(active + place) <= 0.0f ? Vec{} : value;  // ReLU
      Format::put(hidden_gradient + place, value);
      float* bias = room.hidden_bias.data() + column;
      store(bias, load(bias) + value);
    });
    room.update.add(number, room.state_gradient.data(), deep(channels), active, hidden);
  }

  // From the gradient of what some sites see to that of the states around them, and of the filters.
  void through_perception(const Band& band, float* gradient, Room& room) const {
    const int channels = job_.channels;
    const float* filters = at<float>(job_.filters);
    for (int c = 0; c < channels; c += kWidth) {
      const float* seen = room.seen_gradient.data() + c;
      const long there = band.to_channel(c);
      // Two walks over the sites, since sums and weights together do not fit into the registers.
      Vec sum[20];
#pragma GCC unroll 20
      for (int i = 0; i < 20; ++i) sum[i] = load(room.filters.data() + i * channels + c);
      for (int s = 0; s < room.near.count; ++s) {
        const Vec a = load(seen + (3 * s + 1) * channels), b = load(seen + (3 * s + 2) * channels);
#pragma GCC unroll 9
        for (int i = 0; i < 9; ++i) {
          const Vec value = load(room.near.around[s][i] + there);
          sum[i] += a * value;
          sum[9 + i] += b * value;
        }
        sum[18] += a;
        sum[19] += b;
      }
#pragma GCC unroll 20
      for (int i = 0; i < 20; ++i) store(room.filters.data() + i * channels + c, sum[i]);

      Vec weight[18];
#pragma GCC unroll 18
      for (int i = 0; i < 18; ++i) weight[i] = load(filters + i * channels + c);
      for (int s = 0; s < room.near.count; ++s) {
        const Vec own = load(seen + 3 * s * channels);
        const Vec a = load(seen + (3 * s + 1) * channels), b = load(seen + (3 * s + 2) * channels);
#pragma GCC unroll 9
        for (int i = 0; i < 9; ++i) {
          float* to = gradient + (room.near.around[s][i] - band.state) + there;
          Vec value = load(to) + a * weight[i] + b * weight[9 + i];
          if (i == 4) value += own;
          store(to, value);
        }
      }
    }
  }

  const Job& job_;
  Panels<Format> to_state_, from_state_, from_hidden_;
  std::vector<Room> rooms_;
};
