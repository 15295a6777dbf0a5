#include "memory_nodes.h"

#include <omp.h>
#include <sched.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

namespace internvl {
namespace {

/// Another folder in the layout of the system's, for tests.
std::string NodeDirectory() {
  const char* given = std::getenv("INTERNVL_NODE_DIRECTORY");
  return given == nullptr ? "/sys/devices/system/node" : given;
}

/// "0-3,8" as the system writes it; what is not understood is left out.
cpu_set_t ParseCpus(const std::string& list) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  const char* at = list.data();
  const char* const end = at + list.size();
  while (at < end) {
    int first = 0;
    auto read = std::from_chars(at, end, first);
    if (read.ec != std::errc()) break;
    int last = first;
    if (read.ptr < end && *read.ptr == '-') read = std::from_chars(read.ptr + 1, end, last);
    for (int cpu = first; cpu <= last && cpu < CPU_SETSIZE; ++cpu) CPU_SET(cpu, &cpus);
    at = read.ptr + 1;
  }
  return cpus;
}

/// What the process was given, before any of its threads was tied.
const cpu_set_t& AllowedCpus() {
  static const cpu_set_t allowed = [] {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    sched_getaffinity(getpid(), sizeof(cpus), &cpus);
    return cpus;
  }();
  return allowed;
}

/// The cores of each node that the process may use, nodes without one left out.
std::vector<cpu_set_t> Nodes() {
  std::vector<cpu_set_t> nodes;
  const std::string directory = NodeDirectory();
  std::string list;
  if (!std::getline(std::ifstream(directory + "/online"), list)) return nodes;
  const cpu_set_t online = ParseCpus(list);  // of nodes, in the same notation
  for (int node = 0; node < CPU_SETSIZE; ++node) {
    if (!CPU_ISSET(node, &online)) continue;
    std::string text;
    std::getline(std::ifstream(directory + "/node" + std::to_string(node) + "/cpulist"), text);
    cpu_set_t cpus = ParseCpus(text);
    CPU_AND(&cpus, &cpus, &AllowedCpus());
    if (CPU_COUNT(&cpus) > 0) nodes.push_back(cpus);
  }
  return nodes;
}

/// The node of a thread: threads stand beside the cores of all nodes in a row.
const cpu_set_t& NodeOf(int thread, int count, const std::vector<cpu_set_t>& nodes) {
  int cores = 0;
  for (const cpu_set_t& node : nodes) cores += CPU_COUNT(&node);
  int core = static_cast<int>(int64_t{thread} * cores / count);
  for (const cpu_set_t& node : nodes) {
    if (core < CPU_COUNT(&node)) return node;
    core -= CPU_COUNT(&node);
  }
  return nodes.back();
}

}  // namespace

void SpreadThreads(int count) {
  const std::vector<cpu_set_t> nodes = Nodes();
  if (nodes.size() < 2) return;
#pragma omp parallel num_threads(count)
  {
    const cpu_set_t& cpus = count == 1 ? AllowedCpus() : NodeOf(omp_get_thread_num(), count, nodes);
    // Without the right to choose, threads stay as they are: slower, not wrong.
    sched_setaffinity(0, sizeof(cpus), &cpus);
  }
}

}  // namespace internvl
