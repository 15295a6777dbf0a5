// Work that JavaScript recorded, by number.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "backend.h"

namespace internvl {

/// A recording stands for calls from one place of the arena to another: it may be launched only there, and
/// then its results are where they were.
struct Recording {
  std::unique_ptr<RecordedWork> work;
  Arena::Position begin, end;
  std::vector<Tensor> results;
};

struct Recordings {
  std::optional<Arena::Position> open;  // where the recording under way began
  std::map<int64_t, Recording> done;
  int64_t next = 1;  // never reused
};

}  // namespace internvl
