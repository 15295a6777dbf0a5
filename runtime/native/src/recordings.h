// What JavaScript has begun and will come back for, by number: recorded work, and values to read.
#pragma once

#include <cstddef>
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

/// int32 values on their way to JavaScript.
struct Reading {
  std::unique_ptr<PendingDownload> download;
  size_t count = 0;
};

struct Readings {
  std::map<int64_t, Reading> pending;
  int64_t next = 1;  // never reused
};

}  // namespace internvl
