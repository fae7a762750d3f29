// The number of threads for a computation on the CPU. ggml's threads wait for each other by spinning, so if there are
// more busy threads than cores, each wait lasts a time slice and a run takes tens of times longer than on one thread.
// The governor shares the cores between the computations of this process, and backs off when other programs keep the
// cores busy.
#pragma once

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

  private:
    void learn(int used, double cpu_seconds, long switches);

    int threads_, allowed_;
    double watched_cpu_seconds_ = 0;  // since the last judgement
    long watched_switches_ = 0;
    int calm_runs_ = 0, patience_ = 20;  // runs without trouble before more threads are tried again
};

}  // namespace sdcpp
