#include "device/control_groups.h"

#include <fstream>
#include <sstream>

namespace sdcpp {

std::vector<std::string> control_groups(const std::string& controller) {
    const std::string unified = "/sys/fs/cgroup/", own = unified + controller + "/";
    std::vector<std::string> out = {unified, own};
    std::ifstream in("/proc/self/cgroup");
    for (std::string line; std::getline(in, line);) {  // number:controllers:/path
        const size_t first = line.find(':'), second = line.find(':', first + 1);
        if (second == std::string::npos) continue;
        std::istringstream controllers(line.substr(first + 1, second - first - 1));
        const bool version2 = controllers.str().empty();
        bool named = version2;
        for (std::string one; std::getline(controllers, one, ',');) named |= one == controller;
        std::string path = line.substr(second + 1);
        if (!named || !path.starts_with('/')) continue;
        for (; path.size() > 1; path.resize(path.rfind('/')))
            out.push_back((version2 ? unified : own) + path.substr(1) + "/");
    }
    return out;
}

}  // namespace sdcpp
