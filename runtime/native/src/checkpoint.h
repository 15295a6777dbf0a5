// Read-only memory-mapped checkpoint files of one environment.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

namespace internvl {

class MappedFile {
 public:
  /// Throws std::runtime_error naming the path and the cause.
  explicit MappedFile(std::string path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  const uint8_t* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  std::string path_;
  const uint8_t* data_ = nullptr;
  int64_t bytes_ = 0;
};

class MappedFiles {
 public:
  int64_t Map(std::string path);
  bool Unmap(int64_t id) { return files_.erase(id) > 0; }
  const MappedFile* Find(int64_t id) const;

 private:
  std::unordered_map<int64_t, std::unique_ptr<MappedFile>> files_;
  int64_t next_id_ = 1;  // never reused: an unmapped file's id never names another file
};

}  // namespace internvl
