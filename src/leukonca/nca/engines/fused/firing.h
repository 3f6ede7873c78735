// Which sites fire: the hash of leukonca/nca/firing.py, bit by bit.
#pragma once

#include <cstdint>

inline uint32_t mix(uint32_t x) {
  x ^= x >> 16;
  x *= 0x7FEB352Du;
  x ^= x >> 15;
  x *= 0x846CA68Bu;
  return x ^ (x >> 16);
}

inline uint32_t absorb(uint32_t h, uint32_t word) { return mix((h ^ word) + 0x9E3779B9u); }

// Writes the positions (row * columns + column) of the sites of some rows that fire, and returns how many.
// `sites` has room for one more than all sites of the rows. `key` is the hash after seed and image.
inline int firing_sites(uint32_t key, int step, int first_row, int last_row, int columns, uint32_t threshold, int* sites) {
  const uint32_t by_step = absorb(key, static_cast<uint32_t>(step));
  int count = 0;
  for (int row = first_row; row < last_row; ++row) {
    const uint32_t by_row = absorb(by_step, static_cast<uint32_t>(row));
    constexpr int kRun = 64;  // hashed in a loop of its own, which the compiler turns into vectors
    uint32_t hash[kRun];
    for (int start = 0; start < columns; start += kRun) {
      const int run = columns - start < kRun ? columns - start : kRun;
      for (int i = 0; i < kRun; ++i) hash[i] = absorb(by_row, static_cast<uint32_t>(start + i)) >> 8;
      for (int i = 0; i < run; ++i) {
        sites[count] = row * columns + start + i;
        count += hash[i] < threshold;
      }
    }
  }
  return count;
}
