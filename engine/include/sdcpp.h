/* sdcpp: diffusion models on one's own machine. The C interface of the engine, and the whole of it.
 *
 *     sdcpp_error error = {0};
 *     sdcpp_options* options = NULL;
 *     sdcpp_model* model = NULL;
 *     const sdcpp_file file = {"model.safetensors", NULL};
 *     if (sdcpp_options_new("model", &options, &error) != SDCPP_OK ||
 *         sdcpp_option_set_text(options, "wtype", "q8_0", &error) != SDCPP_OK ||
 *         sdcpp_model_open(&file, 1, options, NULL, &model, &error) != SDCPP_OK) { puts(error.message); return 1; }
 *     ...
 *     sdcpp_model_close(model);
 *     sdcpp_options_free(options);
 *
 * Every function that can fail returns a status and writes a message into `error` in the same call (`error` may be
 * NULL). Nothing is thrown, printed or aborted on bad input. Pointers given to a function stay the caller's; handles it
 * gives out are freed by their own close function, texts by sdcpp_text_free. Numbers are little-endian, arrays
 * contiguous, shapes outermost first. Threads: calls on one model wait for each other, except sdcpp_cancel, which may
 * come from any thread at any time; different models run side by side. Within a callback of a model's run, other calls
 * from the same thread on that model return SDCPP_BUSY. sdcpp_set_log_callback should be called before other threads
 * use the engine.
 */
#ifndef SDCPP_H
#define SDCPP_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define SDCPP_API __declspec(dllexport)
#else
#define SDCPP_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* cdef: begin (the Python binding reads the text between these marks, too) */

/* Rises with each change to this header that callers must follow. sdcpp_abi_version gives the library's. */
#define SDCPP_ABI_VERSION 6
int32_t sdcpp_abi_version(void);

typedef enum sdcpp_status {
    SDCPP_OK = 0,
    SDCPP_INVALID_ARGUMENT = 1,
    SDCPP_FILE_NOT_FOUND = 2,
    SDCPP_BAD_FILE = 3,          /* damaged, truncated or of no known format */
    SDCPP_UNSUPPORTED_MODEL = 4, /* a family or shape the engine does not know */
    SDCPP_MISSING_PART = 5,      /* a network or tensor that is needed is not in the files */
    SDCPP_OUT_OF_MEMORY = 6,
    SDCPP_CANCELLED = 7,
    SDCPP_NOT_FINITE = 8, /* a network gave NaN or infinity */
    SDCPP_INTERNAL = 9,
    SDCPP_OVER_BUDGET = 10, /* no plan stays under the memory budget; see sdcpp_error.least_bytes */
    SDCPP_BUSY = 11         /* the model is at work until the callback that made this call returns */
} sdcpp_status;

typedef struct sdcpp_error {
    int32_t status; /* an sdcpp_status */
    char message[1020];
    char option[64]; /* an option that the message names as "option NAME" or "option NAME=VALUE": what stands after the
                        word; "" = none */
    uint64_t least_bytes; /* with SDCPP_OVER_BUDGET: the smallest budget that is enough */
} sdcpp_error;

typedef enum sdcpp_log_level {
    SDCPP_LOG_DEBUG = 0,
    SDCPP_LOG_INFO = 1,
    SDCPP_LOG_WARNING = 2,
    SDCPP_LOG_ERROR = 3
} sdcpp_log_level;
typedef void (*sdcpp_log_callback)(sdcpp_log_level level, const char* message, void* user_data);

/* The engine's version and the version of the ggml it runs on; static strings. */
const char* sdcpp_version(void);
const char* sdcpp_ggml_version(void);

/* Physical cores that this process may run on, at most as many as its control groups give time for. At least 1. */
int32_t sdcpp_physical_cores(void);

/* Messages go to `callback` from now on, from any thread; NULL: nowhere (the default). */
void sdcpp_set_log_callback(sdcpp_log_callback callback, void* user_data);

/* Reports are JSON texts (RFC 8259, UTF-8 if the names in files are), which the caller frees. */
void sdcpp_text_free(char* text);

/* {"devices": [{name, description, is_cpu, free_bytes, total_bytes}], "backends": [{name, device_count}], "trouble"}:
 * the devices of the ggml in use; its backends, those without a device too; and the errors of backends that looked for
 * devices, a line each. */
int sdcpp_devices(char** json, sdcpp_error* error);

/* Options are set by name. sdcpp_option_table lists them all: [{set, name, kind, least, most, choices, default_from,
 * default, group, flags, unit, written, help, samplers}]. `set` is the use of the option: "model" (opening one),
 * "generate" (prompts, sampling, decoding, plans of a model), "plan" (the planner without a model) or "face" (what a
 * face such as Python does itself before it calls the engine; no function takes these). `kind`: "number", "integer",
 * "text", "choice" (one of `choices`), "switch", "budget" (a number of GiB), "numbers" (text, separated by commas) or
 * "array". `default_from`: "engine" (decided as it runs), "fixed" (`default`), "model" (the model's own, else
 * `default`) or "random". `group`, `flags` and `unit` are the command line's, `written` the key in a picture's
 * metadata. `samplers`: those that it has an effect with, if not all. */
int sdcpp_option_table(char** json, sdcpp_error* error);

/* Options of one set. An option that is not set takes its default. */
typedef struct sdcpp_options sdcpp_options;
int sdcpp_options_new(const char* set, sdcpp_options** out, sdcpp_error* error);
void sdcpp_options_free(sdcpp_options* options);
/* Each returns SDCPP_INVALID_ARGUMENT for a name that is not in the set, with near ones in the message, and for a value
 * of another kind or out of bounds. Switches are 0 and 1. Text sets an option of any kind but "array"; integers past
 * 2^53 need it. */
int sdcpp_option_set_number(sdcpp_options* options, const char* name, double value, sdcpp_error* error);
int sdcpp_option_set_text(sdcpp_options* options, const char* name, const char* value, sdcpp_error* error);
/* Copies floats of this shape. */
int sdcpp_option_set_array(sdcpp_options* options, const char* name, const float* data, const int64_t* shape,
                           int32_t dimensions, sdcpp_error* error);

typedef struct sdcpp_file {
    const char* path; /* UTF-8 */
    /* The part that it is: NULL or "" for a checkpoint whose tensor names show their components or a diffusers
     * folder; else a component of sdcpp_components() or a kind of them ("diffusion_model", "text_encoder"), which its
     * tensors then tell. */
    const char* part;
} sdcpp_file;

/* The components that models are made of: [{name, kind, title, option, flags, help}]. `option` is the keyword by which
 * users give a component's file, `flags` are the command line's; components may share them. */
int sdcpp_components(char** json, sdcpp_error* error);

/* The contents of a tensor file or a diffusers folder: {format, family, refusal, adapter, unused, option, networks:
 * [{name, title, parameters}], missing, tensors: [{name, canonical, type, shape, bytes}]}. `family` is what a file is
 * that cannot be used if that is known, else "" if there is no diffusion model; `refusal` {status, message, option} is
 * the error with which sdcpp_model_open() would refuse the file, null if it would not; `adapter` {kinds, ranks, layers,
 * title} tells of a LoRA or one of its kin what it changes and what models it seems to be for, else null; `unused` are
 * names of tensors that none of the networks uses; `option` takes the file if it is no more than a part of a model,
 * else ""; `missing` are titles of the components that text to image needs in addition; `canonical` is the engine's
 * name for a tensor, "" if it has none. Nothing is loaded. `stop` is as for sdcpp_model_open(). */
int sdcpp_listing(const sdcpp_file* file, const volatile int32_t* stop, char** json, sdcpp_error* error);

/* Floats that the library has allocated. */
typedef struct sdcpp_result sdcpp_result;
const float* sdcpp_result_data(const sdcpp_result* result, int64_t shape[6], int32_t* dimensions);
void sdcpp_result_free(sdcpp_result* result);

/* The values of one tensor of a tensor file as floats. `stop` is as for sdcpp_model_open(). */
int sdcpp_tensor(const sdcpp_file* file, const char* name, const volatile int32_t* stop, sdcpp_result** out,
                 sdcpp_error* error);

/* A model: its files, networks and device. */
typedef struct sdcpp_model sdcpp_model;

/* Opens the files and checks every network's tensors; weights are read at first use. Later files' tensors take the
 * place of earlier ones'. `options`: the set "model", or NULL. `stop`: looked at meanwhile, or NULL; once another
 * thread makes it other than 0, the call ends with SDCPP_CANCELLED. */
int sdcpp_model_open(const sdcpp_file* files, size_t file_count, const sdcpp_options* options,
                     const volatile int32_t* stop, sdcpp_model** out, sdcpp_error* error);
void sdcpp_model_close(sdcpp_model* model);

/* {family, title, networks, denoiser, text_encoders, missing, missing_with_taesd, alone, takes_guidance,
 * latent_channels, latent_factor, latent_scale, references, extra_channels, upscale_factor, size_multiple,
 * v_prediction, flow, device, defaults}. `family` is its name in the engine, `title` its name for people; `networks`
 * are in the order in which they run; `denoiser` is the diffusion model among them, "" if absent. `text_encoders`, in
 * the order in which the family takes them and empty if one is missing:
 * [{name, tokenizer, vocabulary, width, positions, length, layers, padding, template, file}] with `vocabulary` rows of
 * `width` in its table of embeddings, and `positions` tokens in a chunk, begin and end marks included, 0 = any number
 * in one chunk; `length` the tokens that a prompt is padded to with `padding`, 0 =
 * none; "{}" in `template` stands for the prompt; `file` holds its weights. `missing`: [{name, kind, title, option}],
 * components that text to image needs; `alone`: such a row for what is all that the files hold if it is no diffusion
 * model, else null. `latent_factor`: pixels per latent side; `latent_scale`: sampled
 * latents are the encoder's by so much, unless the space is another; `references`: {pixels, sizes: [[width, height]]},
 * how reference pictures are prepared, null if the model takes none; `extra_channels`: the diffusion model's inputs
 * beside the latent; `upscale_factor`: how many times larger
 * the upscaler makes a side, 0 if there is none; width and height must be whole multiples of
 * `size_multiple` pixels; `defaults` are those of options whose default is the model's, as text. */
int sdcpp_model_report(const sdcpp_model* model, char** json, sdcpp_error* error);

/* Stops the model's computation within one operation; the call under way returns SDCPP_CANCELLED. */
void sdcpp_cancel(sdcpp_model* model);

/* Writes the tensors that the networks in `files` use into one GGUF file at `path`. `options`: wtype, tensor_type_rules
 * and threads of the set "model", or NULL. Memory stays small whatever the model's size. `stop` is as for
 * sdcpp_model_open(). `callback` may be NULL; anything but 0 from it stops. */
typedef int (*sdcpp_progress_callback)(uint64_t bytes, uint64_t all_bytes, void* user_data);
int sdcpp_convert(const sdcpp_file* files, size_t file_count, const sdcpp_options* options, const char* path,
                  const volatile int32_t* stop, sdcpp_progress_callback callback, void* user_data, sdcpp_error* error);

/* A LoRA or one of its kin, and how much its changes count: 0 = not at all, 1 = as it was trained. */
typedef struct sdcpp_adapter {
    const char* path;      /* UTF-8; a tensor file */
    float denoiser_weight; /* in the diffusion model */
    float text_weight;     /* in the text encoders */
} sdcpp_adapter;
/* These adapters, in this order, and no others are in use from now on; a count of 0 gives the model's own weights. The
 * same file may be given several times; weights may be below 0. Weights that they change, or that earlier ones changed,
 * are loaded again at their next use, all others stay. `json`: for each adapter {kinds, ranks, layers, matched,
 * unmatched}: what its changes are, the number of layers that they change, the number of its tensors that are used, and
 * the names of those that are not. An adapter that changes nothing of this model is SDCPP_UNSUPPORTED_MODEL, and
 * tensors of shapes that do not fit are SDCPP_BAD_FILE; those in use before stay so then. Conditionings that were
 * encoded before keep what they are. */
int sdcpp_set_adapters(sdcpp_model* model, const sdcpp_adapter* adapters, size_t count, char** json,
                       sdcpp_error* error);

/* A ControlNet or T2I-Adapter, and the picture that it makes the result follow. */
typedef struct sdcpp_control {
    const char* path;  /* UTF-8; a tensor file, or a folder of one */
    const float* hint; /* [3, height, width] in 0 to 1; copied */
    int32_t height, width;
    double strength;       /* 1 = as it was trained, 0 = it is not run */
    double start, end;     /* share of the steps, 0 to 1; all of a step must lie within */
    int32_t mode;          /* 0: balanced; 1: the prompt counts more: blocks far from the middle count less; 2: the
                              control counts more: likewise, and negative prompts are not led by it */
    const double* weights; /* a factor for each output, the middle's last; NULL: 1 */
    size_t weight_count;
    int32_t type; /* the number of the hint's type, for a network that takes several; else -1 */
} sdcpp_control;
/* These, in this order, and no others are in use in later runs; a count of 0 gives the model alone. What they make of
 * each block is added. The model's weights stay where they are, as do those of files that were in use before at the
 * same place of the order. Hints must have the size of the pictures. `json`: for each {kind, outputs, types}: what it
 * is, its number of outputs and of types of hints, 0 if it takes one. A file that does not fit to the model is
 * SDCPP_UNSUPPORTED_MODEL; after an error none is in use. */
int sdcpp_set_controls(sdcpp_model* model, const sdcpp_control* controls, size_t count, char** json,
                       sdcpp_error* error);

/* An IP-Adapter, and the picture that the result takes its content from. */
typedef struct sdcpp_ip_adapter {
    const char* path;     /* UTF-8; a tensor file, or a folder of one */
    const float* picture; /* [3, side, side] less CLIP's mean, divided by its deviation; copied */
    int32_t side;         /* vision_side of sdcpp_model_report */
    double strength;      /* a factor of what attentions find in the picture; 0 = it is left out */
    double start, end;    /* share of the steps, 0 to 1; all of a step must lie within */
} sdcpp_ip_adapter;
/* These, in this order, and no others are in use in later runs; a count of 0 gives the model alone. The model needs a
 * CLIP vision encoder among its files. What attentions find in each picture is added to what they find in the text. The
 * model's weights stay where they are. `json`: for each {kind, tokens}: what it is, and how many tokens it makes. A
 * file that does not fit to the model or its vision encoder is SDCPP_UNSUPPORTED_MODEL; after an error none is in use.
 */
int sdcpp_set_ip_adapters(sdcpp_model* model, const sdcpp_ip_adapter* adapters, size_t count, char** json,
                          sdcpp_error* error);

/* An array that the caller owns. */
typedef struct sdcpp_array {
    const char* name;
    const void* data;   /* int32 for tokens, else float */
    int32_t dimensions; /* 1 to 6 */
    int64_t shape[6];
} sdcpp_array;

/* A conditioning: a prompt as the diffusion model takes it. */
typedef struct sdcpp_conditioning sdcpp_conditioning;
/* A prompt's tokens for one text encoder: `ids` [count] = [chunks, positions] with begin, end and padding; `weights`
 * likewise, or NULL: each token's state is multiplied by its weight and the chunk's mean restored. `embeddings`: rows
 * [embedding_count, embedding_width] that take the place of the encoder's own for ids from the size of its vocabulary
 * on, or NULL. */
typedef struct sdcpp_tokens {
    const int32_t* ids;
    const float* weights;
    int32_t count, chunks;
    const float* embeddings;
    int32_t embedding_count, embedding_width;
} sdcpp_tokens;
/* `tokens` for each of the text encoders. `options`: clip_skip of the set "generate", or NULL. Chunks are joined along
 * positions. `nothing`: the prompt is an empty negative one, for which some models take zeros. */
int sdcpp_encode_prompt(sdcpp_model* model, const sdcpp_tokens* tokens, size_t count, const sdcpp_options* options,
                        int32_t nothing, sdcpp_conditioning** out, sdcpp_error* error);
/* A conditioning from its arrays, such as sdcpp_conditioning_array() has given: all that the model's diffusion model
 * takes, each [1, ...]. */
int sdcpp_conditioning_new(sdcpp_model* model, const sdcpp_array* arrays, size_t count, sdcpp_conditioning** out,
                           sdcpp_error* error);
/* An array of the conditioning by name, such as "context" [1, tokens, C], and its shape of up to 6 sides; NULL if it
 * has none of that name. It lives as long as the conditioning. */
const float* sdcpp_conditioning_array(const sdcpp_conditioning* conditioning, const char* name, int64_t shape[6],
                                      int32_t* dimensions);
void sdcpp_conditioning_free(sdcpp_conditioning* conditioning);

/* The shape of one latent, [channels, frames, height, width]; frames is 1. */
typedef struct sdcpp_latent_shape {
    int32_t channels, frames, height, width;
} sdcpp_latent_shape;

/* The state of a run after a step. */
typedef struct sdcpp_step {
    int32_t step, steps; /* from 1 */
    double seconds;      /* since sampling began */
    int32_t batch;
    sdcpp_latent_shape shape;
    const float* latents; /* the model's present estimate of the clean latents, `batch` of `shape` */
    /* If the options ask for a preview after this step, `batch` pictures [preview_height, preview_width, 3]; else NULL.
     */
    const uint8_t* previews;
    int32_t preview_height, preview_width;
} sdcpp_step;

/* Anything but 0 stops the run. */
typedef int (*sdcpp_step_callback)(const sdcpp_step* step, void* user_data);

/* A prompt's part in a run. */
typedef struct sdcpp_prompt_share {
    const sdcpp_conditioning* const* conditionings; /* one for all pictures, or one for each */
    int32_t conditioning_count;
    int32_t negative;        /* 1 = guidance leads away from it */
    double weight;           /* not 0; see sdcpp_sample */
    double start, end;       /* share of the steps, 0 to 1 */
    int32_t without_picture; /* 1 = the option extra counts as zeros */
} sdcpp_prompt_share;

/* Samples; `latent` receives [batch_count, C, H/f, W/f] floats. `options`: the set "generate", or NULL; batch_count
 * pictures go through the network together, with the same numbers as one by one; conditionings of one share have
 * arrays of the same shapes. The prediction is negative + cfg_scale
 * * sum(weight * (positive - negative)) over the positive shares that count at a step; `negative` is the weighted mean
 * of the negative ones (Liu et al. 2022, "Compositional visual generation"). At least one positive share is
 * needed. One negative share is needed, too, unless cfg_scale and all weights are 1. `callback` may be NULL. */
int sdcpp_sample(sdcpp_model* model, const sdcpp_prompt_share* shares, size_t count, const sdcpp_options* options,
                 sdcpp_step_callback callback, void* user_data, float* latent, sdcpp_error* error);

/* A latent to a picture [height * f, width * f, 3] of bytes. `options`: vae_tiling … use_taesd of the set "generate",
 * or NULL. */
int sdcpp_decode(sdcpp_model* model, const sdcpp_options* options, const float* latent, const sdcpp_latent_shape* shape,
                 uint8_t* picture, sdcpp_error* error);
/* A latent to a rough picture [height, width, 3] of bytes, a pixel for each latent value, without a network. May be
 * called within callbacks. */
int sdcpp_preview(const sdcpp_model* model, const float* latent, const sdcpp_latent_shape* shape, uint8_t* picture,
                  sdcpp_error* error);
/* A picture [height, width, 3] of bytes to a larger one, `out` [height * u, width * u, 3], by the model's upscaler; u
 * is upscale_factor of sdcpp_model_report. `options`: upscale_tile_size of the set "generate", or NULL. */
int sdcpp_upscale(sdcpp_model* model, const sdcpp_options* options, const uint8_t* picture, int32_t height,
                  int32_t width, uint8_t* out, sdcpp_error* error);
/* A picture [3, height, width] in -1 to 1 to the mean of its latent [C, height/f, width/f]. */
int sdcpp_encode(sdcpp_model* model, const float* picture, int32_t height, int32_t width, float* latent,
                 sdcpp_error* error);

/* {workspace, weights, slots, carries, peak, mapped}: bytes held on the device since the last call, each at its most:
 * workspaces, resident weights, slots of streamed ones, values between segments, all together; and what is mapped from
 * files. Then workspaces that are not in use are given back. */
int sdcpp_take_memory(sdcpp_model* model, char** json, sdcpp_error* error);

/* Runs one network once: for tests and benchmarks. Networks: text encoders (tokens i32 [N, T]; all layers and the final
 * norm), the diffusion model (x [N, C, H, W], timesteps [N] from 0, clean, to 1000, context [N, T, D] and what else it
 * takes, such as pooled [N, P] and guidance [N]), the autoencoders' halves (x [N, C, H, W]; values as the network takes
 * them, without scaling), the vision encoder (x [N, 3, S, S]; its projected vectors). */
int sdcpp_evaluate(sdcpp_model* model, const char* network, const sdcpp_array* inputs, size_t input_count,
                   sdcpp_result** out, sdcpp_error* error);

/* The planner: which stages of a network stay on the device and which are streamed. Sizes are bytes of one microbatch
 * (one image's cond or uncond half), as stored on the device. */
typedef struct sdcpp_stage {
    const char* name;
    uint64_t param_bytes, compute_bytes, carry_in_bytes, carry_out_bytes, extra_bytes;
    double seconds;        /* compute of one microbatch */
    const uint64_t* parts; /* bytes of the parts that can be streamed alone, such as single tensors; their sum is
                              param_bytes; NULL: one part */
    size_t part_count;
    int32_t same_block; /* as the stage before: "full" and "capped" do not cut there, layers are counted so */
} sdcpp_stage;
/* A plan of these stages; `options`: the set "plan", or NULL. {policy, stages, segments, pieces, resident_stages,
 * streamed_stage_bytes, resident_bytes, streamed_bytes_per_step, peak_bytes, workspace_bytes, carry_bytes, slots,
 * together, group, passes, predicted_step_seconds, limit_step_seconds}. Microbatches: `together` go through a stage
 * before the next stage's turn, `group` of them in one graph; `passes` go through all segments in a step. A segment is
 * {first, last (stages, both included), param_bytes, compute_bytes, footprint_bytes, streamed_bytes, resident, slot,
 * upload_seconds, compute_span}, a piece, which is uploaded as one in each pass, {segment, stage, bytes, offset (within
 * all slots, one behind the other), upload_seconds}. Times are start and end in a steady step, in seconds from its
 * start; uploads may begin before it. */
int sdcpp_plan(const sdcpp_stage* stages, size_t count, const sdcpp_options* options, char** json, sdcpp_error* error);

/* Says that a generation begins: a budget that follows free memory is read again. */
int sdcpp_begin(sdcpp_model* model, sdcpp_error* error);
/* The plan, as sdcpp_plan describes it, of one of the model's networks; nothing is loaded. `options`: width, height,
 * batch_count, cfg_scale and vae_tiling … of the set "generate", or NULL; `chunks`: the prompt's chunks of 77 tokens.
 * A network is named as sdcpp_model_report lists it. */
int sdcpp_model_plan(sdcpp_model* model, const char* network, const sdcpp_options* options, int32_t chunks, char** json,
                     sdcpp_error* error);
/* How many pictures of a batch are best sampled together: all, up to a bound, if weights would be uploaded again for
 * each picture under the memory budget; otherwise 1. `options`: as for sdcpp_model_plan. */
int sdcpp_pictures_together(sdcpp_model* model, const sdcpp_options* options, int32_t* out, sdcpp_error* error);
/* The runs since the last call, for each network that ran: [{network, plan, runs, first_runs, uploaded_bytes,
 * loaded_bytes, seconds, first_seconds, compute_seconds, first_compute_seconds, stall_seconds, upload_seconds,
 * replanned}]. First runs are those of a plan, which load what is resident; `loaded_bytes` are theirs. */
int sdcpp_take_runs(sdcpp_model* model, char** json, sdcpp_error* error);
/* The times since the last call of a model opened with the option profile: [{network, stage, operation, runs,
 * seconds, flops, bytes}]. */
int sdcpp_take_profile(sdcpp_model* model, char** json, sdcpp_error* error);
/* Measures a device: multiplications and additions a second in large layers, bytes a second to it. */
int sdcpp_device_speed(const char* device, int32_t threads, const char* blas, double* flops_per_s,
                       double* link_bytes_per_s, sdcpp_error* error);

/* Sampling without a model; sdcpp_option_table has the names of samplers, schedules and generators. */
/* Standard normal numbers: `count` of them from the generator `rng` seeded with `seed`, after `skip` earlier draws of
 * `count`. */
int sdcpp_noise(const char* rng, uint64_t seed, uint32_t skip, size_t count, float* out, sdcpp_error* error);
/* The sigmas of a schedule for the usual scaled linear noise or, if `flow_shift` is above 0, for a flow; the last one
 * is 0; `capacity` at least steps + 1; returns their number in `count` (the schedule "beta" may give fewer than steps +
 * 1). */
int sdcpp_sigmas(const char* scheduler, int32_t steps, float flow_shift, float* out, size_t capacity, size_t* count,
                 sdcpp_error* error);
/* Runs a sampler on `x` (`count` floats: signal times clean plus sigma times noise, with a signal of 1 or, if `flow`,
 * of 1 - sigma) with the caller's denoiser: denoise(x, sigma) writes the clean estimate into `out` and returns 0,
 * anything else stops. Noise comes from `rng` and `seed`. */
typedef int (*sdcpp_denoiser)(const float* x, float sigma, float* out, size_t count, void* user_data);
int sdcpp_run_sampler(const char* sampler, const float* sigmas, size_t sigma_count, float eta, int32_t flow, float* x,
                      size_t count, const char* rng, uint64_t seed, sdcpp_denoiser denoiser, void* user_data,
                      sdcpp_error* error);

/* cdef: end */

#ifdef __cplusplus
}
#endif

#endif
