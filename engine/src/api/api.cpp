// The C interface: checks pointers, calls the engine, turns exceptions into statuses. Nothing else happens here.
#include <algorithm>
#include <cstring>
#include <map>
#include <new>

#include "api/guard.h"
#include "api/plan.h"
#include "base/log.h"
#include "generation/rng.h"
#include "generation/samplers.h"
#include "pipeline/convert.h"
#include "pipeline/model.h"
#include "weights/names.h"

using namespace sdcpp;

struct sdcpp_listing {
    TensorFile file;
    std::map<std::string, std::string, std::less<>> canonical;

    // Adds a file's tensors, `prefix` put before their names.
    void add(const ModelPath& path, const std::string& prefix) {
        TensorFile part = open_tensor_file(path.path);
        for (const NamedTensor& named : canonical_tensors(part, path.role, namings()))
            canonical[prefix + named.tensor.name] = named.name;
        for (TensorInfo& tensor : part.tensors) tensor.name.insert(0, prefix);
        file.format = part.format;
        file.append(std::move(part));
    }
};

struct sdcpp_model {
    Model model;
    std::vector<std::string> networks;
    std::string last_default;
    explicit sdcpp_model(const ModelOptions& options) : model(options), networks(model.networks()) {}
};

struct sdcpp_profile {
    std::vector<ProfileRow> rows;
};

struct sdcpp_conditioning {
    Conditioning said;
};

namespace {

std::string text_or(const char* text, const char* otherwise) { return text && *text ? text : otherwise; }

ModelPath model_path(const sdcpp_file& file) {
    need(file.path, "a path");
    return {std::filesystem::path(reinterpret_cast<const char8_t*>(file.path)), {text_or(file.part, ""), ""}};
}

}  // namespace

const char* sdcpp_version(void) { return SDCPP_VERSION; }
const char* sdcpp_ggml_version(void) { return ggml_version(); }

void sdcpp_set_log_callback(sdcpp_log_callback callback, void* user_data) { set_log_callback(callback, user_data); }

int32_t sdcpp_device_count(void) {
    try {
        return static_cast<int32_t>(list_devices().size());
    } catch (...) {
        return 0;
    }
}

int sdcpp_device_get(int32_t index, sdcpp_device* out, sdcpp_error* error) {
    return guarded(error, [&] {
        need(out, "out");
        const auto devices = list_devices();
        if (index < 0 || static_cast<size_t>(index) >= devices.size())
            fail(SDCPP_INVALID_ARGUMENT, "no device number ", index);
        const DeviceInfo& device = devices[static_cast<size_t>(index)];
        copy_text(out->name, device.name);
        copy_text(out->description, device.description);
        out->is_cpu = device.is_cpu;
        out->free_bytes = device.free_bytes;
        out->total_bytes = device.total_bytes;
    });
}

int sdcpp_backend_get(int32_t index, sdcpp_backend* out, sdcpp_error* error) {
    return guarded(error, [&] {
        need(out, "out");
        *out = {};
        copy_text(out->trouble, backend_trouble());
        const auto backends = list_backends();
        if (index < 0 || static_cast<size_t>(index) >= backends.size()) return;
        const BackendInfo& backend = backends[static_cast<size_t>(index)];
        copy_text(out->name, backend.name);
        out->device_count = static_cast<int32_t>(backend.device_count);
    });
}

int32_t sdcpp_physical_cores(void) { return physical_cores(); }

int sdcpp_listing_open(const sdcpp_file* file, sdcpp_listing** out, sdcpp_error* error) {
    return guarded(error, [&] {
        need(file, "file");
        need(out, "out");
        const ModelPath path = model_path(*file);
        auto listing = std::make_unique<sdcpp_listing>();
        if (std::filesystem::is_directory(path.path)) {
            for (const ModelPath& part : folder_parts(path.path, namings()))
                listing->add(part, part.path.parent_path().filename().string() + "/");
        } else {
            listing->add(path, "");
        }
        *out = listing.release();
    });
}

void sdcpp_listing_close(sdcpp_listing* listing) { delete listing; }

size_t sdcpp_listing_count(const sdcpp_listing* listing) { return listing ? listing->file.tensors.size() : 0; }

int sdcpp_listing_tensor(const sdcpp_listing* listing, size_t index, sdcpp_tensor* out, sdcpp_error* error) {
    return guarded(error, [&] {
        need(listing, "listing");
        need(out, "out");
        if (index >= listing->file.tensors.size()) fail(SDCPP_INVALID_ARGUMENT, "no tensor number ", index);
        const TensorInfo& tensor = listing->file.tensors[index];
        const auto canonical = listing->canonical.find(tensor.name);
        out->name = tensor.name.c_str();
        out->canonical = canonical == listing->canonical.end() ? "" : canonical->second.c_str();
        copy_text(out->type, dtype_name(tensor.type));
        out->dimensions = static_cast<int32_t>(tensor.shape.size());
        std::copy(tensor.shape.begin(), tensor.shape.end(), out->shape);
        out->bytes = tensor.bytes.size();
    });
}

const char* sdcpp_listing_format(const sdcpp_listing* listing) { return listing ? listing->file.format.c_str() : ""; }

const char* sdcpp_listing_metadata(const sdcpp_listing* listing, const char* key) {
    if (!listing || !key) return nullptr;
    const auto found = listing->file.metadata.find(key);
    return found == listing->file.metadata.end() ? nullptr : found->second.c_str();
}

void sdcpp_model_params_default(sdcpp_model_params* params) {
    if (!params) return;
    *params = {};
    params->device = params->plan_policy = "auto";
    params->max_vram = std::numeric_limits<double>::quiet_NaN();
    params->stream_layers = params->offload_to_cpu = params->gpu_layers = -1;
}

int sdcpp_model_open(const sdcpp_model_params* params, sdcpp_model** out, sdcpp_error* error) {
    return guarded(error, [&] {
        need(params, "params");
        need(out, "out");
        if (params->file_count) need(params->files, "files");
        if (params->threads < 0 || params->threads > 512)
            fail(SDCPP_INVALID_ARGUMENT, "threads is ", params->threads, "; 0 (automatic) to 512 are possible");
        ModelOptions options;
        for (size_t i = 0; i < params->file_count; ++i) options.paths.push_back(model_path(params->files[i]));
        options.wtype = text_or(params->wtype, "");
        options.tensor_type_rules = text_or(params->tensor_type_rules, "");
        options.device = text_or(params->device, "auto");
        options.products = {text_or(params->blas, ""), text_or(params->products, ""), params->bf16 != 0};
        options.threads = params->threads;
        options.profile = params->profile != 0;
        options.whole_process = params->whole_process != 0;
        options.max_vram = params->max_vram;
        if (std::abs(params->max_vram) > 1e6) fail(SDCPP_INVALID_ARGUMENT, "max_vram must be a number of GiB");
        options.stream_layers = params->stream_layers;
        options.offload_to_cpu = params->offload_to_cpu;
        options.gpu_layers = params->gpu_layers;
        options.policy = policy_from(params->plan_policy);
        options.speed = {params->flops_per_s, params->link_bytes_per_s};
        auto model = std::make_unique<sdcpp_model>(options);
        *out = model.release();
    });
}

void sdcpp_model_close(sdcpp_model* model) { delete model; }

int sdcpp_model_get_info(const sdcpp_model* model, sdcpp_model_info* out, sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        need(out, "out");
        const Model& m = model->model;
        *out = {};
        std::string lacking;
        (void)m.text_encoders(&lacking);
        copy_text(out->family, m.family().name);
        copy_text(out->denoiser, m.denoiser() ? m.denoiser()->name() : "");
        copy_text(out->lacking, lacking);
        out->has_vae_decoder = m.has("vae.decoder");
        out->has_vae_encoder = m.has("vae.encoder");
        out->has_taesd_decoder = m.has("taesd.decoder");
        out->latent_channels = m.facts().latent.channels;
        out->latent_factor = m.facts().latent.factor;
        out->size_multiple = m.facts().size_multiple;
        out->v_prediction = m.facts().predicts == Predicts::v;
        out->flow = m.family().prediction.flow;
        copy_text(out->device, m.device().name());
    });
}

const char* sdcpp_model_family_title(const sdcpp_model* model) {
    return model ? model->model.family().title.data() : "";
}

const char* sdcpp_model_default(sdcpp_model* model, const char* key) {
    if (!model || !key) return nullptr;
    try {
        model->last_default = model->model.default_of(key);
    } catch (...) {
        return nullptr;
    }
    return model->last_default.empty() ? nullptr : model->last_default.c_str();
}

const char* sdcpp_model_network(const sdcpp_model* model, int32_t index) {
    if (!model || index < 0 || static_cast<size_t>(index) >= model->networks.size()) return nullptr;
    return model->networks[static_cast<size_t>(index)].c_str();
}

int32_t sdcpp_text_encoder_count(const sdcpp_model* model) {
    try {
        return model ? static_cast<int32_t>(model->model.text_encoders().size()) : 0;
    } catch (...) {
        return 0;
    }
}

int sdcpp_text_encoder_get(const sdcpp_model* model, int32_t index, sdcpp_text_encoder* out, sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        need(out, "out");
        const auto encoders = model->model.text_encoders();
        if (index < 0 || static_cast<size_t>(index) >= encoders.size())
            fail(SDCPP_INVALID_ARGUMENT, "no text encoder number ", index);
        const TextEncoder& encoder = *encoders[static_cast<size_t>(index)];
        const TextEncoder::Traits traits = encoder.traits();
        *out = {};
        copy_text(out->name, encoder.name());
        copy_text(out->tokenizer, traits.tokenizer);
        out->positions = static_cast<int32_t>(traits.positions);
        out->vocabulary = static_cast<int32_t>(traits.vocabulary);
        out->width = static_cast<int32_t>(traits.width);
        out->layers = traits.layers;
        out->padding = traits.padding;
    });
}

void sdcpp_cancel(sdcpp_model* model) {
    if (model) model->model.cancel();
}

int sdcpp_convert(const sdcpp_file* files, size_t file_count, const char* wtype, const char* tensor_type_rules,
                  const char* path, int32_t threads, sdcpp_progress_callback callback, void* user_data,
                  sdcpp_error* error) {
    return guarded(error, [&] {
        need(files, "files");
        need(path, "path");
        std::vector<ModelPath> paths;
        for (size_t i = 0; i < file_count; ++i) paths.push_back(model_path(files[i]));
        const TypeRules types(text_or(wtype, ""), text_or(tensor_type_rules, ""));
        const auto report = [&](uint64_t done, uint64_t all) {
            return !callback || callback(done, all, user_data) == 0;
        };
        const std::filesystem::path target(reinterpret_cast<const char8_t*>(path));
        convert_model(ModelFiles(paths, namings()), types, target, threads > 0 ? threads : physical_cores(), report);
    });
}

int sdcpp_encode_prompt(sdcpp_model* model, const sdcpp_tokens* tokens, size_t count, int32_t clip_skip,
                        int32_t nothing, sdcpp_conditioning** out, sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        need(out, "out");
        std::vector<PromptTokens> given;
        for (size_t i = 0; i < count; ++i) {
            need(tokens, "tokens");
            need(tokens[i].ids, "ids");
            if (tokens[i].count < 1) fail(SDCPP_INVALID_ARGUMENT, "a prompt has no tokens");
            given.push_back(
                {{tokens[i].ids, static_cast<size_t>(tokens[i].count)}, tokens[i].weights, tokens[i].chunks});
        }
        const auto lock = model->model.start();
        *out = new sdcpp_conditioning{model->model.encode_prompt(given, clip_skip, nothing != 0)};
    });
}

const float* sdcpp_conditioning_data(const sdcpp_conditioning* conditioning, int64_t shape[3]) {
    if (!conditioning || !shape) return nullptr;
    const Array& states = conditioning->said.at("context");
    std::copy(states.shape.begin(), states.shape.end(), shape);
    return states.floats().data();
}

void sdcpp_conditioning_free(sdcpp_conditioning* conditioning) { delete conditioning; }

void sdcpp_sample_params_default(sdcpp_sample_params* params) {
    if (!params) return;
    *params = {};
    params->width = params->height = 512;
    params->steps = 20;
    params->cfg_scale = 7;
    params->eta = -1;
    params->batch = 1;
    params->sampler = "euler_a";
    params->scheduler = "discrete";
    params->rng = "cuda";
}

int sdcpp_sample(sdcpp_model* model, const sdcpp_sample_params* params, float* latent, sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        need(params, "params");
        need(latent, "latent");
        const auto lock = model->model.start();
        SampleOptions options;
        if (params->cond) options.shares.push_back({&params->cond->said, {}});
        if (params->uncond) options.shares.push_back({&params->uncond->said, {.negative = true}});
        options.width = params->width;
        options.height = params->height;
        options.steps = params->steps;
        options.cfg_scale = params->cfg_scale;
        options.eta = params->eta;
        options.flow_shift = params->flow_shift;
        options.sampler = text_or(params->sampler, "euler_a");
        options.scheduler = text_or(params->scheduler, "discrete");
        options.rng = text_or(params->rng, "cuda");
        options.seed = params->seed;
        options.noise = params->noise;
        options.batch = params->batch;
        if (params->callback)
            options.callback = [&](int step, int steps, double seconds, const Floats& estimate) {
                return params->callback(step, steps, seconds, estimate.data(), params->user_data) == 0;
            };
        const Floats sampled = model->model.sample(options);
        std::copy(sampled.begin(), sampled.end(), latent);
    });
}

void sdcpp_decode_params_default(sdcpp_decode_params* params) {
    if (params) *params = {-1, 0, -1.0f, 0};
}

int sdcpp_decode(sdcpp_model* model, const sdcpp_decode_params* params, const float* latent, int32_t latent_height,
                 int32_t latent_width, uint8_t* picture, sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        need(params, "params");
        need(latent, "latent");
        need(picture, "picture");
        const auto lock = model->model.start();
        const ModelFacts& facts = model->model.facts();
        if (latent_height < 1 || latent_width < 1) fail(SDCPP_INVALID_ARGUMENT, "latent sides must be 1 or more");
        const auto plane = static_cast<size_t>(latent_height) * static_cast<size_t>(latent_width);
        const Floats decoded = model->model.decode({params->tiling, params->tile, params->overlap, params->taesd != 0},
                                                   {latent, plane * static_cast<size_t>(facts.latent.channels)},
                                                   latent_height, latent_width);
        const size_t pixels =
            plane * static_cast<size_t>(facts.latent.factor) * static_cast<size_t>(facts.latent.factor);
        for (size_t i = 0; i < pixels; ++i)
            for (size_t c = 0; c < 3; ++c)
                picture[3 * i + c] = static_cast<uint8_t>(
                    std::lround(std::clamp(decoded[c * pixels + i] * 127.5f + 127.5f, 0.0f, 255.0f)));
    });
}

int sdcpp_encode(sdcpp_model* model, const uint8_t* picture, int32_t height, int32_t width, float* latent,
                 sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        need(picture, "picture");
        need(latent, "latent");
        if (height < 1 || width < 1 || height > 16384 || width > 16384)
            fail(SDCPP_INVALID_ARGUMENT, "pictures of ", width, " x ", height, " cannot be encoded");
        const auto lock = model->model.start();
        const size_t pixels = static_cast<size_t>(height) * static_cast<size_t>(width);
        Floats planes(3 * pixels);
        for (size_t i = 0; i < pixels; ++i)
            for (size_t c = 0; c < 3; ++c)
                planes[c * pixels + i] = static_cast<float>(picture[3 * i + c]) / 127.5f - 1.0f;
        const Floats encoded = model->model.encode(planes, height, width);
        std::copy(encoded.begin(), encoded.end(), latent);
    });
}

int sdcpp_take_memory(sdcpp_model* model, sdcpp_memory* out, sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        need(out, "out");
        const auto lock = model->model.start();
        const Model::Memory memory = model->model.take_memory();
        const auto of = [&](MemoryClass kind) { return memory.peak.by_class[static_cast<size_t>(kind)]; };
        *out = {of(MemoryClass::workspace), of(MemoryClass::weights), of(MemoryClass::slots),
                of(MemoryClass::carries),   memory.peak.total,        memory.mapped};
    });
}

int sdcpp_begin(sdcpp_model* model, sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        const auto lock = model->model.start();
        model->model.begin();
    });
}

int sdcpp_model_plan(sdcpp_model* model, const char* network, int32_t width, int32_t height, int32_t batch,
                     int32_t guided, int32_t chunks, sdcpp_plan** out, sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        need(network, "network");
        need(out, "out");
        const auto lock = model->model.start();
        *out = plan_handle(model->model.preview(network, width, height, batch, guided != 0, chunks)).release();
    });
}

int sdcpp_pictures_together(sdcpp_model* model, int32_t width, int32_t height, int32_t count, int32_t guided,
                            int32_t* out, sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        need(out, "out");
        const auto lock = model->model.start();
        *out = model->model.pictures_together(width, height, count, guided != 0);
    });
}

int sdcpp_take_profile(sdcpp_model* model, sdcpp_profile** out, sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        need(out, "out");
        const auto turn = model->model.start();
        *out = new sdcpp_profile{model->model.take_profile()};
    });
}

void sdcpp_profile_free(sdcpp_profile* profile) { delete profile; }

size_t sdcpp_profile_count(const sdcpp_profile* profile) { return profile ? profile->rows.size() : 0; }

int sdcpp_profile_get(const sdcpp_profile* profile, size_t index, sdcpp_profile_row* out, sdcpp_error* error) {
    return guarded(error, [&] {
        need(profile, "profile");
        need(out, "out");
        if (index >= profile->rows.size()) fail(SDCPP_INVALID_ARGUMENT, "no row number ", index);
        const ProfileRow& row = profile->rows[index];
        *out = {row.network.c_str(), row.stage.c_str(), row.operation.c_str(), row.runs, row.seconds,
                row.flops,           row.bytes};
    });
}

int sdcpp_take_report(sdcpp_model* model, const char* network, sdcpp_plan** plan, sdcpp_run* out, sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        need(network, "network");
        need(plan, "plan");
        need(out, "out");
        const auto lock = model->model.start();
        *plan = nullptr;
        *out = {};
        if (!model->model.has(network)) return;
        auto report = model->model.take_report(network);
        if (!report) return;
        *out = {report->runs,          report->first_runs,     report->uploaded_bytes,  report->loaded_bytes,
                report->seconds,       report->first_seconds,  report->compute_seconds, report->first_compute_seconds,
                report->stall_seconds, report->upload_seconds, report->replanned};
        *plan = plan_handle(std::move(*report)).release();
    });
}

int sdcpp_device_speed(const char* device, int32_t threads, const char* blas, double* flops_per_s,
                       double* link_bytes_per_s, sdcpp_error* error) {
    return guarded(error, [&] {
        need(flops_per_s, "flops_per_s");
        need(link_bytes_per_s, "link_bytes_per_s");
        const std::atomic<bool> never{false};
        Device opened(text_or(device, "auto"), threads, &never, {text_or(blas, ""), "", false});
        const Device::Speed speed = opened.speed();
        *flops_per_s = speed.flops_per_s;
        *link_bytes_per_s = speed.link_bytes_per_s;
    });
}

int sdcpp_evaluate(sdcpp_model* model, const char* network, const sdcpp_array* inputs, size_t input_count,
                   float* output, size_t capacity, int64_t shape[4], sdcpp_error* error) {
    return guarded(error, [&] {
        need(model, "model");
        need(network, "network");
        need(inputs, "inputs");
        need(output, "output");
        need(shape, "shape");
        std::vector<Array> arrays;
        for (size_t i = 0; i < input_count; ++i) {
            need(inputs[i].name, "an input's name");
            need(inputs[i].data, "an input's data");
            if (inputs[i].dimensions < 1 || inputs[i].dimensions > static_cast<int32_t>(Array::max_rank))
                fail(SDCPP_INVALID_ARGUMENT, "inputs have 1 to ", Array::max_rank, " dimensions");
            Array& array = arrays.emplace_back();
            array.name = inputs[i].name;
            array.shape.assign(inputs[i].shape, inputs[i].shape + inputs[i].dimensions);
            array.data = inputs[i].data;
        }
        const auto lock = model->model.start();
        const Array result = model->model.evaluate(network, std::move(arrays));
        const auto values = result.floats();
        if (values.size() > capacity)
            fail(SDCPP_INVALID_ARGUMENT, "the output takes ", values.size(), " floats, room is for ", capacity);
        std::copy(values.begin(), values.end(), output);
        std::fill_n(shape, 4, 1);
        std::copy(result.shape.rbegin(), result.shape.rend(), std::reverse_iterator(shape + 4));
    });
}

const char* sdcpp_name(const char* kind, int32_t index) {
    if (!kind || index < 0) return nullptr;
    const std::string_view which = kind;
    const std::vector<std::string>* names = which == "sampler"     ? &sampler_names()
                                            : which == "scheduler" ? &scheduler_names()
                                            : which == "rng"       ? &rng_names()
                                                                   : nullptr;
    return names && static_cast<size_t>(index) < names->size() ? (*names)[static_cast<size_t>(index)].c_str() : nullptr;
}

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
        if (!table.is_flow()) table.aligned_sigmas.assign(aligned.begin(), aligned.end());
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
