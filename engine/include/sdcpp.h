/* sdcpp: diffusion models on one's own machine. The C interface of the engine, and the whole of it.
 *
 *     sdcpp_error error = {0};
 *     sdcpp_model_params params = {0};
 *     sdcpp_model_params_default(&params);
 *     const sdcpp_file file = {"model.safetensors", SDCPP_PART_ANY};
 *     params.files = &file;
 *     params.file_count = 1;
 *     sdcpp_model* model = NULL;
 *     if (sdcpp_model_open(&params, &model, &error) != SDCPP_OK) { puts(error.message); return 1; }
 *     ...
 *     sdcpp_model_close(model);
 *
 * Every function that can fail returns a status and writes a message into `error` in the same call (`error` may be
 * NULL). Nothing is thrown, printed or aborted on bad input. Pointers given to a function stay the caller's; handles it
 * gives out are freed by their own close function. Numbers are little-endian, arrays contiguous, shapes outermost
 * first. Threads: calls on one model wait for each other, except sdcpp_cancel, which may come from any thread at any
 * time; different models run side by side. sdcpp_set_log_callback should be called before other threads use the engine.
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

/* cdef: begin (what stands between these marks is read by the Python binding too) */

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
    SDCPP_OVER_BUDGET = 10 /* no plan stays under the memory budget; see sdcpp_error.least_bytes */
} sdcpp_status;

typedef struct sdcpp_error {
    int32_t status; /* an sdcpp_status */
    char message[1020];
    uint64_t least_bytes; /* with SDCPP_OVER_BUDGET: the smallest budget that would do */
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

/* Messages go to `callback` from now on, from any thread; NULL: nowhere (the default). */
void sdcpp_set_log_callback(sdcpp_log_callback callback, void* user_data);

/* Devices of the ggml in use. */
typedef struct sdcpp_device {
    char name[64];
    char description[128];
    int32_t is_cpu;
    uint64_t free_bytes, total_bytes;
} sdcpp_device;
int32_t sdcpp_device_count(void);
int sdcpp_device_get(int32_t index, sdcpp_device* out, sdcpp_error* error);
/* Backends that the ggml in use was built with, those without a device too. `name` is "" past the last. `trouble`: what
 * backends said went wrong as they looked for devices, a line each; it is the same for all of them. */
typedef struct sdcpp_backend {
    char name[64];
    int32_t device_count;
    char trouble[1020];
} sdcpp_backend;
int sdcpp_backend_get(int32_t index, sdcpp_backend* out, sdcpp_error* error);
int32_t sdcpp_physical_cores(void);

typedef struct sdcpp_file {
    const char* path; /* UTF-8 */
    /* What it is given as: NULL or "" for a checkpoint whose tensor names say what they belong to or a diffusers folder;
     * else a component ("clip_l", "vae" ...) or a kind of them ("diffusion_model", "text_encoder"), which its tensors
     * then tell. */
    const char* part;
} sdcpp_file;

/* The contents of a tensor file or a diffusers folder, for looking at: nothing is loaded. */
typedef struct sdcpp_listing sdcpp_listing;
typedef struct sdcpp_tensor {
    const char* name;      /* as in the file; lives as long as the listing */
    const char* canonical; /* the engine's name for it, "" where no network uses it */
    char type[16];         /* f32, f16, q8_0 ... */
    int32_t dimensions;
    int64_t shape[8];
    uint64_t bytes;
} sdcpp_tensor;
int sdcpp_listing_open(const sdcpp_file* file, sdcpp_listing** out, sdcpp_error* error);
void sdcpp_listing_close(sdcpp_listing* listing);
size_t sdcpp_listing_count(const sdcpp_listing* listing);
int sdcpp_listing_tensor(const sdcpp_listing* listing, size_t index, sdcpp_tensor* out, sdcpp_error* error);
const char* sdcpp_listing_format(const sdcpp_listing* listing);
/* The metadata value of `key`, or NULL. */
const char* sdcpp_listing_metadata(const sdcpp_listing* listing, const char* key);

/* A model: its files, networks and device. */
typedef struct sdcpp_model sdcpp_model;

typedef struct sdcpp_model_params {
    const sdcpp_file* files; /* later files' tensors take the place of earlier ones' */
    size_t file_count;
    const char*
        wtype; /* type of the linear layers' weights: NULL or "" = as in the file, else f32, f16, q8_0, q4_K ... */
    const char* tensor_type_rules; /* NULL, or "pattern=type,..." for tensors whose canonical names match */
    const char* device;            /* "auto" or a device's name */
    int32_t threads;               /* of the CPU device; 0 = physical cores */
    double max_vram; /* GiB that all networks together may hold: 0 = no budget, below 0 = what is free less that,
                        NaN = a budget only where not all fits into free memory */
    int32_t stream_layers, offload_to_cpu; /* -1 = automatic, 0 = no, 1 = yes */
    int32_t gpu_layers;                    /* most resident blocks; below 0 = any number */
    const char* plan_policy;               /* "auto", "pipelined", "capped", "full" */
    double flops_per_s, link_bytes_per_s;  /* of the device; 0 = measured when a plan needs them */
    const char* blas; /* NULL or "": the CPU device computes with ggml's kernels alone; else the file of the OpenBLAS
                         of the package scipy-openblas32, for products that the engine has no kernels of its own for */
    const char* products;  /* NULL or "": the best for this processor; "avx2", "avx512", "openblas": for comparing */
    int32_t bf16;          /* 1 = the CPU device multiplies large matrices in bf16, where it can */
    int32_t whole_process; /* 1 = a budget of the CPU device counts what the process holds beside the networks, too */
    int32_t profile;       /* 1 = runs are recorded for sdcpp_take_profile, each operation by itself */
} sdcpp_model_params;
void sdcpp_model_params_default(sdcpp_model_params* params);

/* Opens the files and checks every network's tensors; weights are read at first use. */
int sdcpp_model_open(const sdcpp_model_params* params, sdcpp_model** out, sdcpp_error* error);
void sdcpp_model_close(sdcpp_model* model);

typedef struct sdcpp_model_info {
    char family[32];   /* "sd1", "sd2", "sdxl", "sdxl-refiner", "z-image" */
    char denoiser[32]; /* the diffusion model's name among the networks, "" where there is none */
    char lacking[32];  /* the first text encoder that the family needs and the files lack, "" where there is none */
    int32_t has_vae_decoder, has_vae_encoder, has_taesd_decoder;
    int32_t latent_channels, latent_factor; /* pixels per latent side */
    int32_t size_multiple;                  /* width and height must be whole multiples of this many pixels */
    int32_t v_prediction, flow;
    char device[64];
} sdcpp_model_info;
int sdcpp_model_get_info(const sdcpp_model* model, sdcpp_model_info* out, sdcpp_error* error);
/* The name of the model's family for people; a static string. */
const char* sdcpp_model_family_title(const sdcpp_model* model);
/* The value of a generation option (width, steps, cfg_scale, sampler, scheduler, clip_skip ...) that the model wants,
 * as text; NULL where it says nothing. Lives until the next call. */
const char* sdcpp_model_default(sdcpp_model* model, const char* key);
/* The names of the model's networks in the order in which they run; NULL past the last. Lives as long as the model. */
const char* sdcpp_model_network(const sdcpp_model* model, int32_t index);

/* A text encoder of the model, in the order in which the family takes them. */
typedef struct sdcpp_text_encoder {
    char name[32];
    char tokenizer[32]; /* "clip" or "qwen2" */
    int32_t positions;  /* tokens in a chunk (77), begin and end marks included; 0 = any number, in one chunk */
    int32_t vocabulary, width, layers;
    int32_t padding; /* the token that fills a chunk */
} sdcpp_text_encoder;
int32_t sdcpp_text_encoder_count(const sdcpp_model* model); /* 0 where one is missing */
int sdcpp_text_encoder_get(const sdcpp_model* model, int32_t index, sdcpp_text_encoder* out, sdcpp_error* error);

/* Stops what the model is computing, within one operation; the call under way returns SDCPP_CANCELLED. */
void sdcpp_cancel(sdcpp_model* model);

/* Writes what the networks in `files` use into one GGUF file at `path`, in types as in sdcpp_model_params. Memory stays
 * small whatever the model's size. `callback` may be NULL; anything but 0 from it stops. */
typedef int (*sdcpp_progress_callback)(uint64_t bytes, uint64_t all_bytes, void* user_data);
int sdcpp_convert(const sdcpp_file* files, size_t file_count, const char* wtype, const char* tensor_type_rules,
                  const char* path, int32_t threads, sdcpp_progress_callback callback, void* user_data,
                  sdcpp_error* error);

/* What a prompt says, as the diffusion model takes it. */
typedef struct sdcpp_conditioning sdcpp_conditioning;
/* A prompt's tokens for one text encoder: `ids` [count] = [chunks, positions] with begin, end and padding; `weights`
 * likewise, or NULL: each token's state is multiplied by its weight and the chunk's mean restored. */
typedef struct sdcpp_tokens {
    const int32_t* ids;
    const float* weights;
    int32_t count, chunks;
} sdcpp_tokens;
/* `tokens` for each of the text encoders. `clip_skip` 1 = all layers, 2 = without the last. Chunks are joined along
 * positions. `nothing`: the prompt is an empty negative one, for which SDXL takes zeros. */
int sdcpp_encode_prompt(sdcpp_model* model, const sdcpp_tokens* tokens, size_t count, int32_t clip_skip,
                        int32_t nothing, sdcpp_conditioning** out, sdcpp_error* error);
/* The states and their shape [1, tokens, C]; they live as long as the conditioning. */
const float* sdcpp_conditioning_data(const sdcpp_conditioning* conditioning, int64_t shape[3]);
void sdcpp_conditioning_free(sdcpp_conditioning* conditioning);

/* Called after each step with the model's present idea of the clean latents [batch, C, H/f, W/f]. Anything but 0 stops
 * the run.
 */
typedef int (*sdcpp_step_callback)(int32_t step, int32_t steps, double seconds, const float* latent, void* user_data);

typedef struct sdcpp_sample_params {
    const sdcpp_conditioning* cond;
    const sdcpp_conditioning* uncond; /* may be NULL where cfg_scale is 1 */
    int32_t width, height;            /* pixels */
    int32_t steps;
    float cfg_scale;
    float flow_shift;      /* of flow models: more than 1 spends more steps near noise; 0 = the model's own */
    float eta;             /* noise of the stochastic samplers and ddim; < 0 = the sampler's own */
    const char* sampler;   /* see sdcpp_name */
    const char* scheduler; /* see sdcpp_name */
    const char* rng;       /* "cuda" (Philox) or "cpu" (mt19937), both as PyTorch's */
    uint64_t seed;         /* of the first picture; the others' rise by one */
    int32_t batch;         /* pictures sampled together, step by step; the same numbers as one by one */
    const float* noise;    /* NULL, or every picture's first noise, unit variance, [C, H/f, W/f] */
    sdcpp_step_callback callback;
    void* user_data;
} sdcpp_sample_params;
void sdcpp_sample_params_default(sdcpp_sample_params* params);

/* Samples; `latent` receives [batch, C, H/f, W/f] floats. */
int sdcpp_sample(sdcpp_model* model, const sdcpp_sample_params* params, float* latent, sdcpp_error* error);

typedef struct sdcpp_decode_params {
    int32_t tiling; /* -1 = where the picture is large, 0 = never, 1 = always */
    int32_t tile;   /* latent sides of a tile; 0 = 64 */
    float overlap;  /* share of a tile that its neighbours cover too, 0 to 0.5; < 0 = 0.25 */
    int32_t taesd;  /* 1 = decode with the tiny autoencoder */
} sdcpp_decode_params;
void sdcpp_decode_params_default(sdcpp_decode_params* params);

/* A latent [C, h, w] to a picture [h*f, w*f, 3] of bytes. */
int sdcpp_decode(sdcpp_model* model, const sdcpp_decode_params* params, const float* latent, int32_t latent_height,
                 int32_t latent_width, uint8_t* picture, sdcpp_error* error);
/* A picture [height, width, 3] of bytes to the mean of its latent [C, height/f, width/f]. */
int sdcpp_encode(sdcpp_model* model, const uint8_t* picture, int32_t height, int32_t width, float* latent,
                 sdcpp_error* error);

/* Bytes held on the device since the last call, each at its most: workspaces, resident weights, slots of streamed ones,
 * values between segments, all together; and what is mapped from files. Then workspaces that are free to be had again
 * are given back. */
typedef struct sdcpp_memory {
    uint64_t workspace_bytes, weight_bytes, slot_bytes, carry_bytes, peak_bytes, mapped_bytes;
} sdcpp_memory;
int sdcpp_take_memory(sdcpp_model* model, sdcpp_memory* out, sdcpp_error* error);

/* Runs one network once: for tests and benchmarks. Networks: text encoders (tokens i32 [N, T]; all layers and the final
 * norm), the diffusion model (x [N, C, H, W], timesteps [N] from 0, clean, to 1000, context [N, T, D] and, for SDXL,
 * pooled [N, P]), "vae.decoder", "vae.encoder", "taesd.decoder", "taesd.encoder" (x [N, C, H, W]; values as the network
 * takes them, without scaling). `output` has room for `capacity` floats; its 4 sizes come back in
 * `shape`. */
typedef struct sdcpp_array {
    const char* name;
    const void* data; /* int32 for tokens, else float */
    int32_t dimensions; /* 1 to 6 */
    int64_t shape[6];
} sdcpp_array;
int sdcpp_evaluate(sdcpp_model* model, const char* network, const sdcpp_array* inputs, size_t input_count,
                   float* output, size_t capacity, int64_t shape[4], sdcpp_error* error);

/* The planner: which stages of a network stay on the device and which are streamed. Sizes are bytes of one microbatch
 * (one image's cond or uncond half), as stored on the device. */
typedef struct sdcpp_stage {
    const char* name;
    uint64_t param_bytes, compute_bytes, carry_in_bytes, carry_out_bytes, extra_bytes;
    double seconds;        /* compute of one microbatch */
    const uint64_t* parts; /* of param_bytes: what can be streamed by itself, such as single tensors; NULL: all of it */
    size_t part_count;
    int32_t same_block; /* as the stage before: "full" and "capped" do not cut there, layers are counted so */
} sdcpp_stage;
typedef struct sdcpp_plan_params {
    uint64_t budget_bytes; /* 0 = none */
    const char* policy;    /* "auto", "pipelined", "capped", "full", "capped+prefetch" */
    int32_t stream_layers, offload_to_cpu;
    double link_bytes_per_s;
    int32_t microbatches;
    double dispatch_seconds; /* of starting one graph */
    int32_t gpu_layers;      /* most resident blocks that have weights; < 0 = any number */
} sdcpp_plan_params;
void sdcpp_plan_params_default(sdcpp_plan_params* params);

typedef struct sdcpp_plan sdcpp_plan;
typedef struct sdcpp_plan_summary {
    char policy[32];
    size_t stage_count, segment_count, slot_count, piece_count;
    int32_t together, group, passes; /* microbatches in turn at a stage; of those in one graph; passes a step */
    uint64_t slot_bytes[4], resident_bytes, streamed_bytes_per_step, peak_bytes, workspace_bytes, carry_bytes;
    uint64_t budget_bytes; /* 0 = none */
    double link_bytes_per_s, predicted_step_seconds, limit_step_seconds;
} sdcpp_plan_summary;
typedef struct sdcpp_segment {
    size_t first, last; /* stages, both included */
    uint64_t param_bytes, compute_bytes, footprint_bytes, streamed_bytes;
    int32_t resident; /* all of its stages are */
    int32_t slot;     /* -1 = none */
    /* Steady state, seconds from the step's start; uploads may begin before it. */
    double upload_start, upload_end, compute_start, compute_end;
    double measured_seconds; /* of compute, the mean of all runs; < 0 = not run */
} sdcpp_segment;
/* Weights of a stage that are uploaded as one in each pass; `offset`: within all slots, one behind the other. */
typedef struct sdcpp_piece {
    size_t segment, stage;
    uint64_t bytes, offset;
    double upload_start, upload_end; /* steady state, seconds from the pass's start */
} sdcpp_piece;
int sdcpp_plan_make(const sdcpp_stage* stages, size_t count, const sdcpp_plan_params* params, sdcpp_plan** out,
                    sdcpp_error* error);
void sdcpp_plan_free(sdcpp_plan* plan);
int sdcpp_plan_get_summary(const sdcpp_plan* plan, sdcpp_plan_summary* out, sdcpp_error* error);
int sdcpp_plan_get_segment(const sdcpp_plan* plan, size_t index, sdcpp_segment* out, sdcpp_error* error);
int sdcpp_plan_get_piece(const sdcpp_plan* plan, size_t index, sdcpp_piece* out, sdcpp_error* error);
/* The stage as it was planned with (its name and parts live as long as the plan), whether all of it is resident, and
 * how many bytes of it are streamed. */
int sdcpp_plan_get_stage(const sdcpp_plan* plan, size_t index, sdcpp_stage* out, int32_t* resident,
                         uint64_t* streamed_bytes, sdcpp_error* error);

/* Says that a generation begins: a budget that follows free memory is read again. */
int sdcpp_begin(sdcpp_model* model, sdcpp_error* error);
/* The plan of a text encoder, the diffusion model or "vae.decoder" for pictures of this size: nothing is loaded.
 * `guided`: with a negative prompt; `chunks`: of 77 tokens. */
int sdcpp_model_plan(sdcpp_model* model, const char* network, int32_t width, int32_t height, int32_t batch,
                     int32_t guided, int32_t chunks, sdcpp_plan** out, sdcpp_error* error);
/* How many of `count` pictures are best sampled together (sdcpp_sample_params.batch): all of them, up to a bound, if
   weights would be uploaded again for each picture under the memory budget; otherwise 1. */
int sdcpp_pictures_together(sdcpp_model* model, int32_t width, int32_t height, int32_t count, int32_t guided,
                            int32_t* out, sdcpp_error* error);
/* What a network did since the last call; `plan` is NULL where it did not run. */
typedef struct sdcpp_run {
    uint64_t runs, first_runs, uploaded_bytes, loaded_bytes; /* uploads in all; those of plans' first runs, residents
                                                                included */
    double seconds, first_seconds, compute_seconds, first_compute_seconds, stall_seconds, upload_seconds;
    int32_t replanned;
} sdcpp_run;
int sdcpp_take_report(sdcpp_model* model, const char* network, sdcpp_plan** plan, sdcpp_run* out, sdcpp_error* error);
/* Where the time of a model opened with `profile` went since the last call. */
typedef struct sdcpp_profile sdcpp_profile;
typedef struct sdcpp_profile_row {
    const char *network, *stage, *operation; /* live as long as the profile */
    uint64_t runs;
    double seconds, flops, bytes; /* multiplications and additions; values read and written */
} sdcpp_profile_row;
int sdcpp_take_profile(sdcpp_model* model, sdcpp_profile** out, sdcpp_error* error);
void sdcpp_profile_free(sdcpp_profile* profile);
size_t sdcpp_profile_count(const sdcpp_profile* profile);
int sdcpp_profile_get(const sdcpp_profile* profile, size_t index, sdcpp_profile_row* out, sdcpp_error* error);
/* Measures a device: multiplications and additions a second in large layers, bytes a second to it. */
int sdcpp_device_speed(const char* device, int32_t threads, const char* blas, double* flops_per_s,
                       double* link_bytes_per_s, sdcpp_error* error);

/* Sampling without a model. `kind` is "sampler", "scheduler" or "rng"; gives the name with that number, NULL past the
 * last. */
const char* sdcpp_name(const char* kind, int32_t index);
/* Standard normal numbers: `count` of them from the generator `rng` seeded with `seed`, after `skip` earlier draws of
 * `count`. */
int sdcpp_noise(const char* rng, uint64_t seed, uint32_t skip, size_t count, float* out, sdcpp_error* error);
/* The sigmas of a schedule for Stable Diffusion 1.x noise or, where `flow_shift` is above 0, for a flow; the last one
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
