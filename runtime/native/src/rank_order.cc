#include "rank_order.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "token_weights.h"

namespace internvl {
namespace {

constexpr int kBucketBits = 11;
constexpr int64_t kBuckets = int64_t{1} << kBucketBits;
/// So many items are put in order at once.
constexpr int64_t kFew = 24;

bool Reached(double sum, double mass, bool above) { return above ? sum > mass : sum >= mass; }

}  // namespace

RankOrder::RankOrder(const RankedItems& items, Scratch& scratch)
    : items_(items), all_{nullptr, items.count, 0, 0} {
  DistanceRange(items.distances, items.count, &all_.low, &all_.high);
  if (items.count <= kFew || all_.low == all_.high) return;
  part_items_ = scratch.Get<int32_t>(items.count);
  sums_ = scratch.Get<double>(2 * kBuckets);
  of_all_ = MakeHistogram(all_, scratch.Get<double>(2 * kBuckets));
}

RankPlace RankOrder::Find(double mass, bool above) const {
  Part part = all_;
  double before = 0;
  for (bool first = true;; first = false) {
    if (part.count <= kFew) return FindAmongFew(part, before, mass, above);
    if (part.low == part.high) return FindAmongEquals(part, before, mass, above);
    const Histogram histogram = first ? of_all_ : MakeHistogram(part, sums_);
    // The last bucket that weighs anything when none reaches the mass.
    int bucket = 0;
    double sum = before;
    for (int b = 0; b < histogram.buckets; ++b) {
      if (histogram.sums[b] == 0) continue;
      bucket = b;
      before = sum;
      sum += histogram.sums[b];
      if (Reached(sum, mass, above)) break;
    }
    part = PartOfBucket(part, histogram, bucket);
  }
}

RankOrder::Histogram RankOrder::MakeHistogram(const Part& part, double* sums) const {
  const uint32_t range = part.high - part.low;
  const int shift = std::max(0, static_cast<int>(std::bit_width(range)) - kBucketBits);
  const int buckets = static_cast<int>(range >> shift) + 1;
  // Two of them, taken in turn: an addition need not wait for the one before it when many items share a
  // bucket.
  double* const other = sums + buckets;
  std::fill(sums, other + buckets, 0.0);
  const auto add = [&](double* into, int64_t index) {
    const int64_t item = part.item(index);
    into[(items_.distances[item] - part.low) >> shift] += items_.weight(item);
  };
  int64_t i = 0;
  for (; i + 2 <= part.count; i += 2) {
    add(sums, i);
    add(other, i + 1);
  }
  if (i < part.count) add(sums, i);
  for (int b = 0; b < buckets; ++b) sums[b] += other[b];
  return {sums, buckets, shift};
}

RankOrder::Part RankOrder::PartOfBucket(const Part& part, const Histogram& histogram, int bucket) const {
  const uint32_t low = part.low + (static_cast<uint32_t>(bucket) << histogram.shift);
  const uint32_t high = low + std::min((uint32_t{1} << histogram.shift) - 1, part.high - low);
  int64_t count = 0;
  if (part.items == nullptr) {
    count = IndicesBetween(items_.distances, low, high, part_items_, part.count);
  } else {
    // In place: what is written has been read.
    for (int64_t i = 0; i < part.count; ++i) {
      const int32_t item = part.items[i];
      const uint32_t distance = items_.distances[item];
      if (distance >= low && distance <= high) part_items_[count++] = item;
    }
  }
  Part inner{part_items_, count, UINT32_MAX, 0};
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t distance = items_.distances[part_items_[i]];
    inner.low = std::min(inner.low, distance);
    inner.high = std::max(inner.high, distance);
  }
  return inner;
}

RankPlace RankOrder::FindAmongFew(const Part& part, double before, double mass, bool above) const {
  int64_t order[kFew] = {};
  for (int64_t i = 0; i < part.count; ++i) order[i] = part.item(i);
  std::sort(order, order + part.count, [&](int64_t a, int64_t b) {
    return items_.distances[a] != items_.distances[b] ? items_.distances[a] < items_.distances[b] : a < b;
  });
  RankPlace place{order[0], before};
  for (int64_t i = 0; i < part.count; ++i) {
    const double weight = items_.weight(order[i]);
    if (weight == 0) continue;
    place = {order[i], place.sum + weight};
    if (Reached(place.sum, mass, above)) break;
  }
  return place;
}

RankPlace RankOrder::FindAmongEquals(const Part& part, double before, double mass, bool above) const {
  const double weight = items_.weight(part.item(0));
  const double wanted = (mass - before) / weight;
  // Not a number when nothing weighs anything: then any of them will do.
  const double needed = above ? std::floor(wanted) + 1 : std::ceil(wanted);
  const double taken = needed >= 1 ? std::min(needed, static_cast<double>(part.count)) : 1;
  return {part.item(static_cast<int64_t>(taken) - 1), before + taken * weight};
}

std::span<const int32_t> TopK(const uint32_t* distances, int64_t n, int64_t k, Scratch& scratch) {
  int32_t* const ids = scratch.Get<int32_t>(n);
  const RankPlace last = RankOrder({distances, nullptr, n}, scratch).Reaching(static_cast<double>(k));
  return {ids, static_cast<size_t>(IndicesBetween(distances, 0, distances[last.item], ids, n))};
}

}  // namespace internvl
