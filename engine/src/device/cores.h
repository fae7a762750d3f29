// The cores that this process may use.
#pragma once

namespace sdcpp {

// Physical cores that this process may run on, at most as many as its control groups give time for. At least 1.
int physical_cores();

// `wanted`, but no more than there are processors to run on; 0: physical_cores().
int usable_threads(int wanted);

}  // namespace sdcpp
