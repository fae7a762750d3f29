// The number of threads for a computation on the CPU. ggml's threads wait for each other by spinning. With more busy
// threads than cores, each wait lasts a time slice, and a run takes tens of times longer than on one thread.
// The governor shares the cores between the computations of this process, and backs off when other programs keep the
// cores busy.
#pragma once

#include "base/calibration.h"

namespace sdcpp {

// Makes the calling thread give way to computations on its cores: it is left about a tenth of one. Threads that compute
// wait for each other by spinning, so that each time one is taken off its core all of them lose.
void give_way();

class ThreadGovernor {
  public:
    explicit ThreadGovernor(int threads) : threads_(threads), allowed_(threads) {}
    int threads() const { return threads_; }

    // Stands for one computation while it lives: `threads` is the number that it may use.
    class Turn {
      public:
        explicit Turn(ThreadGovernor& governor);
        ~Turn();
        Turn(const Turn&) = delete;
        Turn& operator=(const Turn&) = delete;
        int threads() const { return threads_; }

      private:
        ThreadGovernor& governor_;
        int threads_;
        double start_cpu_seconds_;
        long start_switches_;
    };

    // Takes what a computation on `used` threads cost: time on cores, and forced switches. Many switches mean that
    // other programs keep the cores busy, so the next computation gets half the threads; after a while of calm, twice
    // as many are tried. A turn calls this at its end.
    void learn(int used, double cpu_seconds, long switches);
    // The number of threads that a computation gets if it is alone in the process.
    int allowed() const { return allowed_; }

  private:
    int threads_, allowed_;
    double watched_cpu_seconds_ = 0;  // since the last judgement
    long watched_switches_ = 0;
    // Runs without trouble, and how many there must be before more threads are tried again.
    int calm_runs_ = 0, patience_ = calibration::first_patience;
};

}  // namespace sdcpp
