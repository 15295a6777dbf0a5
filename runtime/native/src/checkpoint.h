// Checkpoint files of one environment, open for reading. They are read and not mapped: a file that is cut
// short or a disk that fails while it is read is an error that names it, where a mapping would end the
// process.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

#include "backend.h"

namespace internvl {

class CheckpointFile {
 public:
  /// Throws std::runtime_error naming the path and the cause.
  explicit CheckpointFile(std::string path);
  ~CheckpointFile();
  CheckpointFile(const CheckpointFile&) = delete;
  CheckpointFile& operator=(const CheckpointFile&) = delete;

  const std::string& path() const { return path_; }
  /// When it was opened.
  int64_t bytes() const { return bytes_; }
  /// Fills `to` from `offset` on. Returns 0, the errno of what failed, or kEnded when the file has become too
  /// short. Any thread may call it.
  int Read(int64_t offset, void* to, int64_t count) const;

  static constexpr int kEnded = -1;

 private:
  std::string path_;
  int descriptor_ = -1;
  int64_t bytes_ = 0;
};

class CheckpointFiles {
 public:
  int64_t Open(std::string path);
  bool Close(int64_t id);
  const CheckpointFile* Find(int64_t id) const;
  /// Where files are read to on their way to the backend's device; kept while a file is open.
  UploadPieces& Pieces(Backend& backend);

 private:
  std::unique_ptr<UploadPieces> pieces_;
  std::unordered_map<int64_t, std::unique_ptr<CheckpointFile>> files_;
  int64_t next_id_ = 1;  // never reused: a closed file's id never names another file
};

}  // namespace internvl
