// Collectives as JavaScript sees them: without a group (world size 1) they check their arguments and do
// nothing.
#include "../collective.h"

#include <cstring>

#include "../cpu/parallel.h"
#include "../cpu/row_math.h"
#include "../operations.h"

namespace internvl {
Napi::Value CreateCollective(const Call& call) {
  const int64_t world_size = call.Integer(1, "worldSize", 1, 1024);
  const int64_t rank = call.Integer(0, "rank", 0, world_size - 1);
  const std::string hostname = call.Text(2, "hostname");
  const int64_t timeout = call.Integer(3, "timeoutMs", 1, int64_t{1} << 31);
  if (call.environment.collective)
    call.FailRange("this thread has a group already: call closeCollective first");
  Napi::Array addresses = Napi::Array::New(call.env(), static_cast<size_t>(world_size));
  addresses.Set(static_cast<uint32_t>(rank), Napi::Uint8Array::New(call.env(), 0));
  if (world_size == 1) return addresses;
  call.environment.collective = std::make_unique<Collective>(
      static_cast<int>(rank), static_cast<int>(world_size), hostname, std::chrono::milliseconds(timeout));
  const std::vector<char>& address = call.environment.collective->address();
  for (uint32_t peer = 0; peer < world_size; ++peer) {
    if (peer == rank) continue;
    auto bytes = Napi::Uint8Array::New(call.env(), address.size());
    std::memcpy(bytes.Data(), address.data(), address.size());
    addresses.Set(peer, bytes);
  }
  return addresses;
}

namespace {

/// How tensors go from rank to rank, for JavaScript.
Napi::Value Ways(const Call& call, const std::string& path, const std::string& left_out, bool graphs) {
  Napi::Object ways = Napi::Object::New(call.env());
  ways.Set("path", path);
  ways.Set("leftOut", left_out);
  ways.Set("graphs", graphs);
  return ways;
}

}  // namespace

Napi::Value ConnectCollective(const Call& call) {
  const Napi::Array list = call.List(0, "addresses");
  Collective* group = call.environment.collective.get();
  const uint32_t world_size = group == nullptr ? 1 : static_cast<uint32_t>(group->world_size());
  REQUIRE(call, list.Length() == world_size,
          "addresses must have one element per rank: " + std::to_string(world_size) + ", not " +
              std::to_string(list.Length()));
  if (group == nullptr) return Ways(call, "none", "", true);
  std::vector<std::vector<char>> addresses(world_size);
  for (uint32_t peer = 0; peer < world_size; ++peer) {
    const Napi::Value value = list.Get(peer);
    if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
      call.FailType("addresses must hold Uint8Arrays");
    }
    auto bytes = value.As<Napi::Uint8Array>();
    const size_t expected = peer == static_cast<uint32_t>(group->rank()) ? 0 : group->address().size();
    if (bytes.ElementLength() != expected) {
      call.FailRange("the address of rank " + std::to_string(peer) + " has " +
                     std::to_string(bytes.ElementLength()) + " bytes instead of " + std::to_string(expected));
    }
    addresses[peer].assign(bytes.Data(), bytes.Data() + bytes.ElementLength());
  }
  group->Connect(addresses);
  std::string left_out;
  std::unique_ptr<DeviceGroup>& devices = call.environment.device_group;
  devices = call.backend().JoinGroup(*group, left_out);
  if (!devices) return Ways(call, "host (TCP)", left_out, false);
  return Ways(call, devices->path(), left_out, devices->can_record());
}

Napi::Value CloseCollective(const Call& call) {
  if (call.environment.device_group) {
    // What was recorded writes into memory that the group takes with it.
    call.environment.recordings.done.clear();
    call.environment.device_group.reset();
  }
  call.environment.collective.reset();
  return call.env().Undefined();
}

namespace {

/// The tensor itself, or a copy of it.
Tensor InHostMemory(const Call& call, Tensor tensor, Scratch& scratch) {
  if (call.backend().on_host()) return tensor;
  uint8_t* const copy = scratch.Get<uint8_t>(tensor.bytes());
  call.backend().Download(copy, tensor.data, static_cast<size_t>(tensor.bytes()));
  tensor.data = copy;
  return tensor;
}

// Up to here a step's latency is hops, not bytes: everybody sends everything to everybody and sums by itself.
constexpr int64_t kDirectBytes = 256 * 1024;

/// Sums in rank order, so that every rank gets the same bits.
template <typename T>
void ReduceDirectly(Collective& group, const Tensor& x, Scratch& scratch) {
  const int64_t n = x.elements(), world_size = group.world_size();
  T* all = scratch.Get<T>(n * world_size);
  float* sum = scratch.Get<float>(n);
  float* term = scratch.Get<float>(n);
  group.AllGather("allReduce", {x.as<uint8_t>(), static_cast<size_t>(x.bytes())},
                  {reinterpret_cast<uint8_t*>(all), static_cast<size_t>(x.bytes() * world_size)});
  Widen(all, sum, n);
  for (int64_t rank = 1; rank < world_size; ++rank) {
    Widen(all + rank * n, term, n);
    AddRow(term, sum, n);
  }
  Narrow(sum, x.as<T>(), n);
}

void ReduceAroundRing(Collective& group, const Tensor& x, Scratch& scratch) {
  const int64_t n = x.elements(), width = x.cols();
  const auto share = static_cast<size_t>(group.RingShare(n));
  const std::span<float> received{scratch.Get<float>(static_cast<int64_t>(share)), share};
  if (x.dtype == DType::kFloat32) {
    return group.AllReduce({x.as<float>(), static_cast<size_t>(n)}, received);
  }
  float* wide = scratch.Get<float>(n);
  ParallelFor(x.rows(), n, [&](int64_t r, int) { Widen(x.row<BFloat16>(r), wide + r * width, width); });
  group.AllReduce({wide, static_cast<size_t>(n)}, received);
  ParallelFor(x.rows(), n, [&](int64_t r, int) { Narrow(wide + r * width, x.row<BFloat16>(r), width); });
}

}  // namespace

Napi::Value AllReduce(const Call& call) {
  const Tensor x = call.Matrix(0, "x");
  Collective* group = call.environment.collective.get();
  if (group == nullptr) return call.env().Undefined();
  if (call.environment.device_group) {
    call.environment.device_group->AllReduce(x);
    return call.env().Undefined();
  }
  Scratch scratch(call.environment.host_arena);
  const Tensor values = InHostMemory(call, x, scratch);
  if (x.bytes() * (group->world_size() - 1) > kDirectBytes) {
    ReduceAroundRing(*group, values, scratch);
  } else {
    WithElement(x.dtype, [&]<typename T>(T*) { ReduceDirectly<T>(*group, values, scratch); });
  }
  if (values.data != x.data) call.backend().Upload(x.data, values.data, static_cast<size_t>(x.bytes()));
  return call.env().Undefined();
}

Napi::Value AllGatherColumns(const Call& call) {
  const Tensor x = call.MatrixOf(0, "x", DType::kFloat32);
  Collective* group = call.environment.collective.get();
  if (group == nullptr) return call[0];
  const int64_t world_size = group->world_size(), width = x.cols(), n = x.elements();
  const Result out = call.Make(DType::kFloat32, x.rows(), world_size * width);
  if (call.environment.device_group) {
    call.environment.device_group->AllGatherColumns(x, out.tensor);
    return out.handle;
  }
  Scratch scratch(call.environment.host_arena);
  float* gathered = scratch.Get<float>(n * world_size);  // [worldSize, rows, cols]
  const Tensor mine = InHostMemory(call, x, scratch);
  group->AllGather("allGatherColumns", {mine.as<uint8_t>(), static_cast<size_t>(x.bytes())},
                   {reinterpret_cast<uint8_t*>(gathered), static_cast<size_t>(x.bytes() * world_size)});
  constexpr auto kElement = static_cast<int64_t>(sizeof(float));
  for (int64_t rank = 0; rank < world_size; ++rank) {
    call.backend().UploadRows(out.tensor.as<float>() + rank * width, world_size * width * kElement,
                              gathered + rank * n, width * kElement, x.rows());
  }
  return out.handle;
}

Napi::Value Broadcast(const Call& call) {
  const Napi::Value value = call[0];
  if (!value.IsTypedArray()) call.FailType("bytes must be a Uint8Array or an Int32Array");
  const bool integers = value.As<Napi::TypedArray>().TypedArrayType() == napi_int32_array;
  std::span<uint8_t> bytes;
  if (integers) {
    const auto values = call.Int32s(0, "bytes");
    bytes = {reinterpret_cast<uint8_t*>(values.data()), values.size_bytes()};
  } else {
    bytes = call.Bytes(0, "bytes");
  }
  Collective* group = call.environment.collective.get();
  const int64_t root = call.Integer(1, "root", 0, group == nullptr ? 0 : group->world_size() - 1);
  if (group != nullptr) group->Broadcast(bytes, static_cast<int>(root));
  return call.env().Undefined();
}

Napi::Value Swap(const Call& call) {
  const std::span<uint8_t> out = call.Bytes(0, "out"), in = call.Bytes(1, "into");
  REQUIRE(call, out.size() == in.size(), "out and into must have as many bytes");
  Collective* group = call.environment.collective.get();
  const int64_t last = group == nullptr ? 0 : group->world_size() - 1;
  const int64_t first = call.Integer(2, "first", 0, last), second = call.Integer(3, "second", 0, last);
  if (group == nullptr) return call.env().Undefined();
  if (first == second) call.FailRange("first and second must be two ranks");
  group->Swap(out, in, static_cast<int>(first), static_cast<int>(second));
  return call.env().Undefined();
}

}  // namespace internvl
