// The C interface: checks pointers, calls the engine, turns exceptions into statuses. Nothing else happens here.
#include <algorithm>
#include <cstring>

#include "api/guard.h"
#include "api/handles.h"
#include "base/log.h"
#include "base/stop.h"
#include "generation/rng.h"
#include "generation/samplers.h"
#include "pipeline/adapters.h"
#include "pipeline/autoencode.h"
#include "pipeline/checks.h"
#include "pipeline/convert.h"
#include "pipeline/evaluate.h"
#include "pipeline/generate.h"
#include "pipeline/plans.h"
#include "pipeline/preview.h"
#include "pipeline/prompt.h"
#include "pipeline/reports.h"
#include "pipeline/tensor_values.h"
#include "pipeline/upscale.h"

using namespace sdcpp;

namespace {

// The model's turn to run: waits for other threads.
[[nodiscard]] std::unique_lock<std::mutex> turn(sdcpp_model* model) {
    if (model->calling_back.load() == std::this_thread::get_id())
        fail(SDCPP_BUSY, "the model is at work until the callback that made this call returns");
    return model->model.start();
}

// Marks a model's thread as within a callback.
class CallingBack {
  public:
    explicit CallingBack(sdcpp_model* model) : model_(model) { model_->calling_back = std::this_thread::get_id(); }
    ~CallingBack() { model_->calling_back = std::thread::id(); }
    CallingBack(const CallingBack&) = delete;
    CallingBack& operator=(const CallingBack&) = delete;

  private:
    sdcpp_model* model_;
};

const float* give_floats(const Array& array, int64_t* shape, int32_t* dimensions) {
    if (shape) std::copy(array.shape.begin(), array.shape.end(), shape);
    if (dimensions) *dimensions = static_cast<int32_t>(array.shape.size());
    return array.floats().data();
}

PictureSize picture_size(const GenerateOptions& options, int chunks) {
    const SampleOptions& sample = options.sample;
    return {sample.width, sample.height, sample.batch, sample.guidance_by.scale != 1, chunks, options.decode};
}

// Throws SDCPP_INVALID_ARGUMENT unless `shape`, if there is one, is that of a picture's latent or of a batch's.
void require_latents(const char* name, const std::vector<int64_t>& shape, const Model& model,
                     const SampleOptions& sample) {
    const LatentSpace& space = model.facts.latent;
    const std::vector<int64_t> one = {space.channels, sample.height / space.factor, sample.width / space.factor};
    std::vector<int64_t> all = one;
    all.insert(all.begin(), sample.batch);
    if (!shape.empty() && shape != one && shape != all)
        fail(SDCPP_INVALID_ARGUMENT, OptionName{name}, " must have the shape [", one[0], ", ", one[1], ", ", one[2],
             "], or one more side for the pictures of a batch");
}

void require_mask(const std::vector<int64_t>& shape, const Model& model, const SampleOptions& sample) {
    const LatentSpace& space = model.facts.latent;
    const std::vector<int64_t> one = {sample.height / space.factor, sample.width / space.factor};
    if (!shape.empty() && shape != one && shape != std::vector<int64_t>{sample.batch, one[0], one[1]})
        fail(SDCPP_INVALID_ARGUMENT, OptionName{"mask"}, " must have the shape [", one[0], ", ", one[1],
             "], or one more side for the pictures of a batch");
}

// Throws SDCPP_INVALID_ARGUMENT unless it is one of the model's latents.
LatentShape latent_shape(const sdcpp_latent_shape& shape, const LatentSpace& space) {
    const LatentShape given = {shape.channels, shape.frames, shape.height, shape.width};
    if (given.channels != space.channels || given.frames != 1 || given.height < 1 || given.width < 1)
        fail(SDCPP_INVALID_ARGUMENT, "a latent of ", given.channels, " channels, ", given.frames, " frames and ",
             given.height, " x ", given.width, " cannot be decoded; this model's have ", space.channels,
             " channels and one frame");
    return given;
}

// Bytes [height, width, 3] as [3, height, width], each byte by 255.
Floats planes_of(const uint8_t* picture, int32_t height, int32_t width) {
    if (height < 1 || width < 1 || height > max_pixels_side || width > max_pixels_side)
        fail(SDCPP_INVALID_ARGUMENT, "a picture of ", width, " x ", height, " pixels is not possible");
    const size_t pixels = static_cast<size_t>(height) * static_cast<size_t>(width);
    Floats planes(3 * pixels);
    for (size_t i = 0; i < pixels; ++i)
        for (size_t c = 0; c < 3; ++c) planes[c * pixels + i] = static_cast<float>(picture[3 * i + c]) / 255.0f;
    return planes;
}

// The caller's arrays, which stay the caller's.
std::vector<Array> arrays_of(const sdcpp_array* given, size_t count) {
    std::vector<Array> out(count);
    for (size_t i = 0; i < count; ++i) {
        need(given[i].name, "an array's name");
        need(given[i].data, "an array's data");
        if (given[i].dimensions < 1 || given[i].dimensions > static_cast<int32_t>(Array::max_rank))
            fail(SDCPP_INVALID_ARGUMENT, "arrays have 1 to ", Array::max_rank, " dimensions");
        out[i].name = given[i].name;
        out[i].shape.assign(given[i].shape, given[i].shape + given[i].dimensions);
        out[i].data = given[i].data;
        for (const int64_t side : out[i].shape)
            if (side < 0 || side > (int64_t{1} << 31))
                fail(SDCPP_INVALID_ARGUMENT, "a side of ", out[i].name, " is ", side);
    }
    return out;
}

ModelPath model_path(const sdcpp_file& file) {
    need(file.path, "a path");
    return {std::filesystem::path(reinterpret_cast<const char8_t*>(file.path)), {file.part ? file.part : "", ""}};
}

}  // namespace

int32_t sdcpp_abi_version(void) { return SDCPP_ABI_VERSION; }
const char* sdcpp_version(void) { return SDCPP_VERSION; }
const char* sdcpp_ggml_version(void) { return ggml_version(); }
int32_t sdcpp_physical_cores(void) { return physical_cores(); }

void sdcpp_set_log_callback(sdcpp_log_callback callback, void* user_data) { set_log_callback(callback, user_data); }

void sdcpp_text_free(char* text) { std::free(text); }

int sdcpp_devices(char** json, sdcpp_error* error) {
    return guarded(error, [&] { give_json(json, [] { return devices_json(); }); });
}

int sdcpp_components(char** json, sdcpp_error* error) {
    return guarded(error, [&] { give_json(json, [] { return components_json(); }); });
}

int sdcpp_listing(const sdcpp_file* file, const volatile int32_t* stop, char** json, sdcpp_error* error) {
    return guarded(error, [&] {
        const StopFlag flag(stop);
        need(file, "file");
        give_json(json, [&] { return listing_json(model_path(*file)); });
    });
}

int sdcpp_option_table(char** json, sdcpp_error* error) {
    return guarded(error, [&] { give_json(json, [] { return option_table_json(); }); });
}

int sdcpp_options_new(const char* set, sdcpp_options** out, sdcpp_error* error) {
    return guarded(error, [&] {
        need(set, "set");
        need(out, "out");
        *out = new sdcpp_options{Options(std::string_view(set))};
    });
}

void sdcpp_options_free(sdcpp_options* options) { delete options; }

int sdcpp_option_set_number(sdcpp_options* options, const char* name, double value, sdcpp_error* error) {
    return guarded(error, [&] {
        need(options, "options");
        need(name, "name");
        options->values.set_number(name, value);
    });
}

int sdcpp_option_set_text(sdcpp_options* options, const char* name, const char* value, sdcpp_error* error) {
    return guarded(error, [&] {
        need(options, "options");
        need(name, "name");
        need(value, "value");
        options->values.set_text(name, value);
    });
}

int sdcpp_option_set_array(sdcpp_options* options, const char* name, const float* data, const int64_t* shape,
                           int32_t dimensions, sdcpp_error* error) {
    return guarded(error, [&] {
        need(options, "options");
        need(name, "name");
        need(data, "data");
        need(shape, "shape");
        OptionArray array;
        int64_t count = 1;
        for (int32_t i = 0; i < dimensions; ++i) {
            constexpr int64_t most = int64_t{1} << 32;
            if (shape[i] < 1 || shape[i] > most / count)
                fail(SDCPP_INVALID_ARGUMENT, OptionName{name}, " has a side of ", shape[i]);
            count *= shape[i];
            array.shape.push_back(shape[i]);
        }
        array.data.assign(data, data + count);
        options->values.set_array(name, std::move(array));
    });
}

int sdcpp_tensor(const sdcpp_file* file, const char* name, const volatile int32_t* stop, sdcpp_result** out,
                 sdcpp_error* error) {
    return guarded(error, [&] {
        const StopFlag flag(stop);
        need(file, "file");
        need(name, "name");
        need(out, "out");
        Array values = tensor_values(model_path(*file).path, name);
        if (values.shape.size() > Array::max_rank)
            fail(SDCPP_INVALID_ARGUMENT, "the tensor '", name, "' has ", values.shape.size(), " dimensions; ",
                 Array::max_rank, " are possible");
        *out = new sdcpp_result{std::move(values)};
    });
}

int sdcpp_model_open(const sdcpp_file* files, size_t file_count, const sdcpp_options* options,
                     const volatile int32_t* stop, sdcpp_model** out, sdcpp_error* error) {
    return guarded(error, [&] {
        const StopFlag flag(stop);
        need(out, "out");
        if (file_count) need(files, "files");
        auto wanted = stored<ModelOptions>(options, OptionSet::model);
        for (size_t i = 0; i < file_count; ++i) wanted.paths.push_back(model_path(files[i]));
        *out = std::make_unique<sdcpp_model>(wanted).release();
    });
}

void sdcpp_model_close(sdcpp_model* model) { delete model; }

int sdcpp_model_report(const sdcpp_model* model, char** json, sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        give_json(json, [&] { return model_json(model->model); });
    });
}

void sdcpp_cancel(sdcpp_model* model) {
    if (model) model->model.cancelled = true;
}

int sdcpp_convert(const sdcpp_file* files, size_t file_count, const sdcpp_options* options, const char* path,
                  const volatile int32_t* stop, sdcpp_progress_callback callback, void* user_data, sdcpp_error* error) {
    return guarded(error, [&] {
        const StopFlag flag(stop);
        need(files, "files");
        need(path, "path");
        std::vector<ModelPath> paths;
        for (size_t i = 0; i < file_count; ++i) paths.push_back(model_path(files[i]));
        const auto wanted = stored<ModelOptions>(options, OptionSet::model);
        const TypeRules types(wanted.wtype, wanted.tensor_type_rules);
        const auto report = [&](uint64_t done, uint64_t all) {
            return !callback || callback(done, all, user_data) == 0;
        };
        const std::filesystem::path target(reinterpret_cast<const char8_t*>(path));
        convert_model(open_files(paths), types, target, wanted.threads > 0 ? wanted.threads : physical_cores(), report);
    });
}

int sdcpp_set_adapters(sdcpp_model* model, const sdcpp_adapter* adapters, size_t count, char** json,
                       sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        if (count) need(adapters, "adapters");
        std::vector<AdapterChoice> choices;
        for (size_t i = 0; i < count; ++i)
            choices.push_back({model_path({adapters[i].path, nullptr}).path,
                               static_cast<double>(adapters[i].denoiser_weight),
                               static_cast<double>(adapters[i].text_weight)});
        const auto lock = turn(model);
        give_json(json, [&] { return set_adapters(model->model, choices); });
    });
}

int sdcpp_set_controls(sdcpp_model* model, const sdcpp_control* controls, size_t count, char** json,
                       sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        if (count) need(controls, "controls");
        std::vector<ControlChoice> choices;
        for (size_t i = 0; i < count; ++i) {
            const sdcpp_control& one = controls[i];
            need(one.hint, "a control's hint");
            if (one.height < 1 || one.width < 1 || one.height > max_pixels_side || one.width > max_pixels_side)
                fail(SDCPP_INVALID_ARGUMENT, "a hint of ", one.width, " x ", one.height, " cannot be used");
            if (one.mode < 0 || one.mode > 2) fail(SDCPP_INVALID_ARGUMENT, "modes of controls are 0 to 2");
            if (one.weight_count) need(one.weights, "a control's weights");
            ControlChoice& choice = choices.emplace_back();
            choice.path = model_path({one.path, nullptr}).path;
            choice.hint.assign(one.hint,
                               one.hint + 3 * static_cast<size_t>(one.height) * static_cast<size_t>(one.width));
            choice.height = one.height;
            choice.width = one.width;
            choice.strength = one.strength;
            choice.start = one.start;
            choice.end = one.end;
            choice.mode = static_cast<ControlMode>(one.mode);
            if (one.weight_count) choice.weights.assign(one.weights, one.weights + one.weight_count);
            choice.type = one.type;
        }
        const auto lock = turn(model);
        give_json(json, [&] { return set_controls(model->model, std::move(choices)); });
    });
}

int sdcpp_set_ip_adapters(sdcpp_model* model, const sdcpp_ip_adapter* adapters, size_t count, char** json,
                          sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        if (count) need(adapters, "adapters");
        std::vector<IpAdapterChoice> choices;
        for (size_t i = 0; i < count; ++i) {
            const sdcpp_ip_adapter& one = adapters[i];
            need(one.picture, "an adapter's picture");
            if (one.side < 1 || one.side > max_pixels_side)
                fail(SDCPP_INVALID_ARGUMENT, "a picture of ", one.side, " x ", one.side, " cannot be used");
            IpAdapterChoice& choice = choices.emplace_back();
            choice.path = model_path({one.path, nullptr}).path;
            choice.picture.assign(one.picture,
                                  one.picture + 3 * static_cast<size_t>(one.side) * static_cast<size_t>(one.side));
            choice.side = one.side;
            choice.strength = one.strength;
            choice.start = one.start;
            choice.end = one.end;
        }
        const auto lock = turn(model);
        give_json(json, [&] { return set_ip_adapters(model->model, std::move(choices)); });
    });
}

int sdcpp_encode_prompt(sdcpp_model* model, const sdcpp_tokens* tokens, size_t count, const sdcpp_options* options,
                        int32_t nothing, sdcpp_conditioning** out, sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        need(out, "out");
        std::vector<PromptTokens> given;
        for (size_t i = 0; i < count; ++i) {
            need(tokens, "tokens");
            need(tokens[i].ids, "ids");
            if (tokens[i].count < 1) fail(SDCPP_INVALID_ARGUMENT, "a prompt has no tokens");
            PromptTokens& one = given.emplace_back();
            one = {{tokens[i].ids, static_cast<size_t>(tokens[i].count)}, tokens[i].weights, tokens[i].chunks};
            if (tokens[i].embedding_count == 0) continue;
            need(tokens[i].embeddings, "embeddings");
            if (tokens[i].embedding_count < 0 || tokens[i].embedding_width < 1)
                fail(SDCPP_INVALID_ARGUMENT, "embeddings must be rows of numbers");
            one.embedding_width = tokens[i].embedding_width;
            one.embeddings = {tokens[i].embeddings, static_cast<size_t>(tokens[i].embedding_count) *
                                                        static_cast<size_t>(one.embedding_width)};
        }
        const auto wanted = stored<GenerateOptions>(options, OptionSet::generate, &model->model);
        const auto lock = turn(model);
        *out = new sdcpp_conditioning{encode_prompt(model->model, given, wanted.clip_skip, nothing != 0)};
    });
}

int sdcpp_conditioning_new(sdcpp_model* model, const sdcpp_array* arrays, size_t count, sdcpp_conditioning** out,
                           sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        need(out, "out");
        if (count) need(arrays, "arrays");
        const std::vector<Array> given = arrays_of(arrays, count);
        const auto lock = turn(model);
        *out = new sdcpp_conditioning{conditioning_of(model->model, given)};
    });
}

const float* sdcpp_conditioning_array(const sdcpp_conditioning* conditioning, const char* name, int64_t shape[6],
                                      int32_t* dimensions) {
    if (!conditioning || !name) return nullptr;
    const Conditioning::Item* item = conditioning->conditioning.find(name);
    return item ? give_floats(item->array, shape, dimensions) : nullptr;
}

void sdcpp_conditioning_free(sdcpp_conditioning* conditioning) { delete conditioning; }

int sdcpp_sample(sdcpp_model* model, const sdcpp_prompt_share* shares, size_t count, const sdcpp_options* options,
                 sdcpp_step_callback callback, void* user_data, float* latent, sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        need(latent, "latent");
        if (count) need(shares, "shares");
        auto wanted = stored<GenerateOptions>(options, OptionSet::generate, &model->model);
        SampleOptions& sample = wanted.sample;
        for (size_t i = 0; i < count; ++i) {
            const sdcpp_prompt_share& share = shares[i];
            PromptShare& one = sample.shares.emplace_back();
            one.guide = {share.negative != 0, share.weight, share.start, share.end};
            one.without_picture = share.without_picture != 0;
            for (int32_t picture = 0; picture < share.conditioning_count; ++picture) {
                need(share.conditionings, "a share's conditionings");
                need(share.conditionings[picture], "a share's conditioning");
                one.conditionings.push_back(&share.conditionings[picture]->conditioning);
            }
        }
        require_latents("noise", wanted.noise_shape, model->model, sample);
        require_latents("init_latent", wanted.init_latent_shape, model->model, sample);
        require_mask(wanted.mask_shape, model->model, sample);
        const auto lock = turn(model);
        Pictures previews;
        if (wanted.preview.wanted()) require_preview(model->model, wanted.preview);
        if (callback)
            sample.observers.push_back([&](const StepReport& report) {
                const LatentSpace& space = model->model.facts.latent;
                sdcpp_step step = {report.step,
                                   report.steps,
                                   report.seconds,
                                   sample.batch,
                                   {space.channels, 1, sample.height / space.factor, sample.width / space.factor},
                                   report.clean.data(),
                                   nullptr,
                                   0,
                                   0};
                if (wanted.preview.after(report.step, report.steps)) {
                    previews = preview_pictures(model->model, wanted.preview, wanted.decode,
                                                wanted.preview.noisy ? report.noisy : report.clean, sample.batch,
                                                step.shape.height, step.shape.width);
                    step.previews = previews.pixels.data();
                    step.preview_height = previews.height;
                    step.preview_width = previews.width;
                }
                const CallingBack mark(model);
                return callback(&step, user_data) == 0;
            });
        const Floats sampled = generate(model->model, sample);
        std::copy(sampled.begin(), sampled.end(), latent);
    });
}

int sdcpp_decode(sdcpp_model* model, const sdcpp_options* options, const float* latent, const sdcpp_latent_shape* shape,
                 uint8_t* picture, sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        need(latent, "latent");
        need(shape, "shape");
        need(picture, "picture");
        const auto wanted = stored<GenerateOptions>(options, OptionSet::generate, &model->model);
        const auto lock = turn(model);
        const LatentSpace& space = model->model.facts.latent;
        const LatentShape given = latent_shape(*shape, space);
        const Floats decoded = decode(model->model, wanted.decode, {latent, static_cast<size_t>(given.count())},
                                      shape->height, shape->width);
        const std::vector<uint8_t> bytes = to_bytes(decoded);
        std::copy(bytes.begin(), bytes.end(), picture);
    });
}

int sdcpp_preview(const sdcpp_model* model, const float* latent, const sdcpp_latent_shape* shape, uint8_t* picture,
                  sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        need(latent, "latent");
        need(shape, "shape");
        need(picture, "picture");
        const LatentSpace& space = model->model.facts.latent;
        const LatentShape given = latent_shape(*shape, space);
        const auto rough =
            space.rough_picture({latent, static_cast<size_t>(given.count())}, given.height * given.width);
        std::copy(rough.begin(), rough.end(), picture);
    });
}

int sdcpp_upscale(sdcpp_model* model, const sdcpp_options* options, const uint8_t* picture, int32_t height,
                  int32_t width, uint8_t* out, sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        need(picture, "picture");
        need(out, "out");
        const auto wanted = stored<GenerateOptions>(options, OptionSet::generate, &model->model);
        const auto lock = turn(model);
        const Floats planes = planes_of(picture, height, width);
        Floats made = upscale(model->model, wanted.upscale, planes, height, width);
        for (float& value : made) value = value * 2 - 1;
        const std::vector<uint8_t> bytes = to_bytes(made);
        std::copy(bytes.begin(), bytes.end(), out);
    });
}

int sdcpp_encode(sdcpp_model* model, const float* picture, int32_t height, int32_t width, float* latent,
                 sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        need(picture, "picture");
        need(latent, "latent");
        if (height < 1 || width < 1 || height > max_pixels_side || width > max_pixels_side)
            fail(SDCPP_INVALID_ARGUMENT, "pictures of ", width, " x ", height, " cannot be encoded");
        const auto lock = turn(model);
        const size_t values = 3 * static_cast<size_t>(height) * static_cast<size_t>(width);
        const Floats encoded = encode(model->model, {picture, values}, height, width);
        std::copy(encoded.begin(), encoded.end(), latent);
    });
}

int sdcpp_take_memory(sdcpp_model* model, char** json, sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        const auto lock = turn(model);
        give_json(json, [&] { return take_memory(model->model); });
    });
}

int sdcpp_begin(sdcpp_model* model, sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        const auto lock = turn(model);
        model->model.memory.begin();
    });
}

int sdcpp_model_plan(sdcpp_model* model, const char* network, const sdcpp_options* options, int32_t chunks, char** json,
                     sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        need(network, "network");
        const auto wanted = stored<GenerateOptions>(options, OptionSet::generate, &model->model);
        const auto lock = turn(model);
        give_json(json, [&] {
            const RunReport found = preview(model->model, network, picture_size(wanted, chunks));
            return plan_json(found.stages, found.options, found.plan);
        });
    });
}

int sdcpp_pictures_together(sdcpp_model* model, const sdcpp_options* options, int32_t* out, sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        need(out, "out");
        const auto wanted = stored<GenerateOptions>(options, OptionSet::generate, &model->model);
        const auto lock = turn(model);
        *out = pictures_together(model->model, picture_size(wanted, 1));
    });
}

int sdcpp_take_runs(sdcpp_model* model, char** json, sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        const auto lock = turn(model);
        give_json(json, [&] { return take_runs(model->model); });
    });
}

int sdcpp_take_profile(sdcpp_model* model, char** json, sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        const auto lock = turn(model);
        give_json(json, [&] { return profile_json(model->model.profile.take()); });
    });
}

int sdcpp_device_speed(const char* device, int32_t threads, const char* blas, double* flops_per_s,
                       double* link_bytes_per_s, sdcpp_error* error) {
    return guarded(error, [&] {
        need(flops_per_s, "flops_per_s");
        need(link_bytes_per_s, "link_bytes_per_s");
        const std::atomic<bool> never{false};
        Device opened(device && *device ? device : "auto", threads, &never, {blas ? blas : "", "", false});
        const Device::Speed speed = opened.speed();
        *flops_per_s = speed.flops_per_s;
        *link_bytes_per_s = speed.link_bytes_per_s;
    });
}

int sdcpp_evaluate(sdcpp_model* model, const char* network, const sdcpp_array* inputs, size_t input_count,
                   sdcpp_result** out, sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        need(network, "network");
        need(inputs, "inputs");
        need(out, "out");
        std::vector<Array> arrays = arrays_of(inputs, input_count);
        const auto lock = turn(model);
        *out = new sdcpp_result{evaluate(model->model, network, std::move(arrays))};
    });
}

const float* sdcpp_result_data(const sdcpp_result* result, int64_t shape[6], int32_t* dimensions) {
    return result ? give_floats(result->array, shape, dimensions) : nullptr;
}

void sdcpp_result_free(sdcpp_result* result) { delete result; }

int sdcpp_noise(const char* rng, uint64_t seed, uint32_t skip, size_t count, float* out, sdcpp_error* error) {
    return guarded(error, [&] {
        need(rng, "rng");
        need(out, "out");
        const auto generator = make_rng(rng, seed);
        for (uint32_t i = 0; i <= skip; ++i) generator->normal({out, count});
    });
}

int sdcpp_sigmas(const char* scheduler, int32_t steps, float flow_shift, float* out, size_t capacity, size_t* count,
                 sdcpp_error* error) {
    return guarded(error, [&] {
        need(scheduler, "scheduler");
        need(out, "out");
        need(count, "count");
        NoiseTable table = flow_shift > 0 ? NoiseTable::flow(static_cast<double>(flow_shift)) : NoiseTable();
        const auto& aligned = default_family().prediction.aligned_sigmas;
        const auto& geometric = default_family().prediction.geometric_sigmas;
        if (!table.is_flow()) {
            table.aligned_sigmas.assign(aligned.begin(), aligned.end());
            table.geometric_sigmas.assign(geometric.begin(), geometric.end());
        }
        const std::vector<double> sigmas = make_sigmas(scheduler, steps, table);
        if (sigmas.size() > capacity) fail(SDCPP_INVALID_ARGUMENT, "room for ", sigmas.size(), " sigmas is needed");
        std::transform(sigmas.begin(), sigmas.end(), out, [](double s) { return static_cast<float>(s); });
        *count = sigmas.size();
    });
}

int sdcpp_run_sampler(const char* sampler, const float* sigmas, size_t sigma_count, float eta, int32_t flow, float* x,
                      size_t count, const char* rng, uint64_t seed, sdcpp_denoiser denoiser, void* user_data,
                      sdcpp_error* error) {
    return guarded(error, [&] {
        need(sampler, "sampler");
        need(sigmas, "sigmas");
        need(x, "x");
        need(rng, "rng");
        if (!denoiser) fail(SDCPP_INVALID_ARGUMENT, "denoiser is NULL");
        const auto generator = make_rng(rng, seed);
        const auto denoise = [&](const Floats& noisy, double sigma) {
            Floats clean(noisy.size());
            if (denoiser(noisy.data(), static_cast<float>(sigma), clean.data(), noisy.size(), user_data) != 0)
                fail(SDCPP_CANCELLED, "stopped by the denoiser");
            return clean;
        };
        SamplerRun run{denoise, {sigmas, sigmas + sigma_count}, *generator, eta, flow != 0};
        Floats state(x, x + count);
        run_sampler(sampler, run, state);
        std::copy(state.begin(), state.end(), x);
    });
}
