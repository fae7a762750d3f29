// A driver in front of Mesa 22.3's lavapipe. It keeps the handles of destroyed buffers; their memory is freed. That
// lavapipe counts references to all buffers that a descriptor set names. A shader may use only some of them, and Vulkan
// lets the others be gone by then: lavapipe writes to freed memory. ggml's sets name buffers of earlier graphs.
#include <dlfcn.h>
#include <vulkan/vk_icd.h>
#include <vulkan/vulkan.h>

#include <string_view>

namespace {

template <typename Function>
Function driver(const char* name) {
    static void* const library = dlopen("libvulkan_lvp.so", RTLD_NOW | RTLD_LOCAL);
    return reinterpret_cast<Function>(dlsym(library, name));
}

void VKAPI_CALL keep(VkDevice, VkBuffer, const VkAllocationCallbacks*) {}

PFN_vkGetDeviceProcAddr next_of_device = nullptr;

PFN_vkVoidFunction VKAPI_CALL of_device(VkDevice device, const char* name) {
    if (std::string_view(name) == "vkDestroyBuffer") return reinterpret_cast<PFN_vkVoidFunction>(keep);
    return next_of_device(device, name);
}

}  // namespace

extern "C" {

VKAPI_ATTR VkResult VKAPI_CALL vk_icdNegotiateLoaderICDInterfaceVersion(uint32_t* version) {
    return driver<PFN_vkNegotiateLoaderICDInterfaceVersion>("vk_icdNegotiateLoaderICDInterfaceVersion")(version);
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL vk_icdGetInstanceProcAddr(VkInstance instance, const char* name) {
    const PFN_vkVoidFunction found = driver<PFN_vkGetInstanceProcAddr>("vk_icdGetInstanceProcAddr")(instance, name);
    if (found && std::string_view(name) == "vkGetDeviceProcAddr") {
        next_of_device = reinterpret_cast<PFN_vkGetDeviceProcAddr>(found);
        return reinterpret_cast<PFN_vkVoidFunction>(of_device);
    }
    if (found && std::string_view(name) == "vkDestroyBuffer") return reinterpret_cast<PFN_vkVoidFunction>(keep);
    return found;
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL vk_icdGetPhysicalDeviceProcAddr(VkInstance instance, const char* name) {
    return driver<PFN_vkGetInstanceProcAddr>("vk_icdGetPhysicalDeviceProcAddr")(instance, name);
}
}
