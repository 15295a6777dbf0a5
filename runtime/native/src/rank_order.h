// Where sums reach a mass when items are taken in rank order, found without putting them in order: what
// top-k, top-p and a draw ask for. A histogram tells in which range of distances the place lies, and only
// that range is looked into further.
#pragma once

#include <cstdint>
#include <span>

#include "memory.h"

namespace internvl {

/// Items in the order of ascending distance, equals by index.
struct RankedItems {
  const uint32_t* distances;
  /// At least 0, equal for equal distances; null: 1 each.
  const double* weights;
  int64_t count;

  double weight(int64_t item) const { return weights == nullptr ? 1 : weights[item]; }
};

/// A place in rank order.
struct RankPlace {
  int64_t item;
  /// Of the weights of all items up to it, itself included.
  double sum;
};

/// Answers any number of questions about the same items, which must stay as they are. Its memory is the
/// Scratch's.
class RankOrder {
 public:
  /// 1 <= items.count < 2^31.
  RankOrder(const RankedItems& items, Scratch& scratch);

  /// The first item at which the sum is at least `mass`; where none is, for rounding, the last that weighs
  /// anything.
  RankPlace Reaching(double mass) const { return Find(mass, false); }
  /// The same, but above `mass`.
  RankPlace Exceeding(double mass) const { return Find(mass, true); }

 private:
  /// Some of the items, by ascending index (null: all of them), and the range of their distances.
  struct Part {
    const int32_t* items;
    int64_t count;
    uint32_t low, high;

    int64_t item(int64_t index) const { return items == nullptr ? index : items[index]; }
  };
  /// The weight of each range of 2^shift distances.
  struct Histogram {
    double* sums;
    int buckets;
    int shift;
  };

  RankPlace Find(double mass, bool above) const;
  Histogram MakeHistogram(const Part& part, double* sums) const;
  Part PartOfBucket(const Part& part, const Histogram& histogram, int bucket) const;
  RankPlace FindAmongFew(const Part& part, double before, double mass, bool above) const;
  RankPlace FindAmongEquals(const Part& part, double before, double mass, bool above) const;

  const RankedItems items_;
  Part all_;
  Histogram of_all_{};
  double* sums_ = nullptr;  // for the histograms of parts
  int32_t* part_items_ = nullptr;
};

/// The items that top-k leaves of n, by ascending index: those of at most the k-th smallest distance.
std::span<const int32_t> TopK(const uint32_t* distances, int64_t n, int64_t k, Scratch& scratch);

}  // namespace internvl
