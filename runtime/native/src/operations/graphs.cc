// Recording the calls of a step once and launching them as one.
#include "../operations.h"

namespace internvl {
namespace {

/// Each holds memory of the device; a runtime has one for each size of batch.
constexpr size_t kMostRecordings = 1024;

}  // namespace

Napi::Value BeginGraph(const Call& call) {
  Recordings& recordings = call.environment.recordings;
  REQUIRE(call, call.backend().can_record(), "this thread's device does not record calls");
  REQUIRE(call, !recordings.open, "a graph is being recorded already");
  REQUIRE(call, recordings.done.size() < kMostRecordings,
          "there are " + std::to_string(kMostRecordings) + " graphs already: free some");
  call.backend().BeginRecording();
  recordings.open = call.backend().arena().position();
  return call.env().Undefined();
}

Napi::Value EndGraph(const Call& call) {
  Recordings& recordings = call.environment.recordings;
  REQUIRE(call, recordings.open.has_value(), "no graph is being recorded");
  const Arena::Position begin = *recordings.open;
  recordings.open.reset();
  Recording recording{.work = call.backend().EndRecording(),
                      .begin = begin,
                      .end = call.backend().arena().position(),
                      .results = {}};
  const Napi::Array results = call.List(0, "results");
  for (uint32_t i = 0; i < results.Length(); ++i) {
    const Napi::Value value = results.Get(i);
    const Tensor* tensor =
        value.IsNumber() ? call.environment.tensors.Find(value.As<Napi::Number>().Int64Value()) : nullptr;
    REQUIRE(call, tensor != nullptr, "results must hold tensors that live");
    recording.results.push_back(*tensor);
  }
  recordings.done.emplace(recordings.next, std::move(recording));
  return Napi::Number::New(call.env(), static_cast<double>(recordings.next++));
}

Napi::Value LaunchGraph(const Call& call) {
  const auto found = call.environment.recordings.done.find(call.Integer(0, "graph", 0));
  REQUIRE(call, found != call.environment.recordings.done.end(), "graph was freed, or never was one");
  const Recording& recording = found->second;
  REQUIRE(
      call, call.backend().arena().position() == recording.begin,
      "the arena must stand where it stood when the graph was recorded: the same calls must come before it");
  recording.work->Launch();
  Napi::Array handles = Napi::Array::New(call.env(), recording.results.size());
  for (uint32_t i = 0; i < recording.results.size(); ++i) {
    const int64_t handle = call.environment.tensors.PushAt(recording.results[i], recording.end);
    handles.Set(i, Napi::Number::New(call.env(), static_cast<double>(handle)));
  }
  return handles;
}

Napi::Value FreeGraph(const Call& call) {
  const bool freed = call.environment.recordings.done.erase(call.Integer(0, "graph", 0)) > 0;
  REQUIRE(call, freed, "graph was freed, or never was one");
  return call.env().Undefined();
}

}  // namespace internvl
