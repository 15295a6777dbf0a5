#include "rank_processes.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "expect.h"

namespace internvl::cuda {
namespace {

constexpr unsigned kLongestSeconds = 120;

/// Where the ranks of one group find each other's addresses.
struct Meeting {
  std::atomic<int> written;
  size_t bytes;
  char addresses[8][128];
};

void Connect(TestRank& rank, Meeting& meeting) {
  const std::vector<char>& address = rank.links.address();
  std::memcpy(meeting.addresses[rank.rank], address.data(), address.size());
  ++meeting.written;
  while (meeting.written < rank.world) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  std::vector<std::vector<char>> addresses;
  for (int peer = 0; peer < rank.world; ++peer)
    addresses.emplace_back(meeting.addresses[peer], meeting.addresses[peer] + address.size());
  rank.links.Connect(addresses);
}

}  // namespace

TestRank::TestRank(int rank, int world, std::chrono::milliseconds timeout)
    : rank(rank), world(world), links(rank, world, "127.0.0.1", timeout) {
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
}

TestRank::~TestRank() {
  group.reset();
  cudaStreamDestroy(stream);
}

CudaGroup* TestRank::Join() {
  group = CudaGroup::Join(links, stream, arena, left_out);
  return group.get();
}

void RunRanks(const std::string& what, int world, std::chrono::milliseconds timeout,
              const std::function<void(TestRank&)>& body, int may_die) {
  void* shared = mmap(nullptr, sizeof(Meeting), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  auto* meeting = new (shared) Meeting{};
  std::fflush(nullptr);
  std::vector<pid_t> processes;
  for (int rank = 0; rank < world; ++rank) {
    const pid_t process = fork();
    if (process != 0) {
      processes.push_back(process);
      continue;
    }
    alarm(kLongestSeconds);
    failures = 0;
    try {
      TestRank mine(rank, world, timeout);
      Connect(mine, *meeting);
      body(mine);
    } catch (const std::exception& error) {
      Expect(false, what + ", rank " + std::to_string(rank) + ": " + error.what());
    }
    _exit(failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
  }
  for (int rank = 0; rank < world; ++rank) {
    int status = 0;
    // A rank that was stopped and not killed goes when the others have.
    if (rank == may_die) continue;
    waitpid(processes[static_cast<size_t>(rank)], &status, 0);
    Expect(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS,
           what + ": rank " + std::to_string(rank) + " of " + std::to_string(world));
  }
  if (may_die >= 0) {
    kill(processes[static_cast<size_t>(may_die)], SIGKILL);
    waitpid(processes[static_cast<size_t>(may_die)], nullptr, 0);
  }
  munmap(shared, sizeof(Meeting));
}

}  // namespace internvl::cuda
