/*
 * protocol_watch.h: the messages that say what the engine does and has done, and those of the
 * control channel that tell it its settings; the file of saved counters.
 */
#ifndef G2_PROTOCOL_WATCH_H
#define G2_PROTOCOL_WATCH_H

#include "protocol.h"

/* ---- models ---- */

typedef enum g2_model_state
{
	G2_MODEL_LOADING = 1, G2_MODEL_LOADED, G2_MODEL_FAILED
} g2_model_state;

typedef struct g2_model_row
{
	g2_span		name;
	uint32_t	state;			/* g2_model_state */
	uint32_t	percent;		/* while loading */
	g2_span		architecture;
	uint64_t	parameters;
	uint32_t	context_length;
	uint32_t	vocab_size;
	g2_span		tokenizer;
	g2_span		format;
	g2_span		device;
	uint64_t	bytes;			/* of the pack */
	g2_span		content_hash;
	g2_span		error;
	int64_t		loaded_at;		/* microseconds since 1970, 0 = never */
	int64_t		last_used_at;
	uint32_t	n_roles;
	g2_span		roles[G2_MAX_ROLES];
	uint32_t	restricted;		/* 1: for the owner, members of `roles` and superusers only; 0: for
								 * everybody */
	g2_span		base;			/* of an adapter that is loaded; empty otherwise */
	g2_owner	owner;
} g2_model_row;

typedef struct g2_info
{
	g2_span		version;
	g2_span		arithmetic;
	g2_span		isa;
	g2_span		blas;			/* empty: none */
	g2_span		cuda_device;
	g2_span		cuda_driver;
	uint32_t	threads;
	uint32_t	supervisor_pid;
	uint32_t	engine_pid;
	int64_t		started_at;		/* microseconds since 1970 */
	/* counters of what is alive, for tests and monitoring */
	uint32_t	live_requests;
	uint32_t	live_sequences;
	uint64_t	kv_blocks_used;
	uint64_t	kv_blocks_total;
	uint32_t	restart_pending;	/* 1: another engine is installed than this process */
} g2_info;

/* ---- watching ---- */

typedef enum g2_request_state
{
	G2_STATE_LOADING = 1,		/* its model is being loaded */
	G2_STATE_QUEUED,			/* waits for room */
	G2_STATE_THROTTLED,			/* waits because of a limit of its role */
	G2_STATE_PREFILL, G2_STATE_DECODE
} g2_request_state;

/* One sequence that is alive; a request that is not tokenized yet is one sequence. */
typedef struct g2_request_row
{
	uint32_t	pid;			/* the backend's */
	uint32_t	session_user;	/* OID */
	uint32_t	database;		/* OID */
	g2_span		model;
	uint32_t	state;			/* g2_request_state */
	uint32_t	sequence;		/* index in its request */
	uint32_t	prompt_tokens;
	uint32_t	generated_tokens;
	uint32_t	max_len;
	int64_t		queued_at;		/* microseconds since 1970 */
	int64_t		started_at;		/* 0 = not yet */
} g2_request_row;

/* Counters of a month, role, database and model. */
typedef struct g2_usage_row
{
	uint32_t	month;			/* UTC: year * 12 + month - 1 */
	uint32_t	role;			/* OID of the session user */
	uint32_t	database;		/* OID */
	g2_span		model;
	uint64_t	calls;			/* GENERATE requests that were answered or failed */
	uint64_t	sequences;
	uint64_t	prompt_tokens;
	uint64_t	cached_tokens;	/* of these, found in the prefix cache */
	uint64_t	completion_tokens;
	uint64_t	result_hits;
	uint64_t	truncated;		/* prompts cut because of the option */
	uint64_t	errors;
	uint64_t	cancelled;
	uint64_t	queue_us;
	uint64_t	compute_us;		/* share of the device's time */
	double		cost;			/* compute time times the price of that time */
} g2_usage_row;

/* A loaded model at work; counters since it was loaded. */
typedef struct g2_engine_row
{
	g2_span		model;
	g2_span		format;
	uint64_t	steps;
	uint64_t	step_sequences;	/* sum over the steps of the sequences in them that got a token */
	uint64_t	prompt_tokens;	/* computed, those from the cache not counted */
	uint64_t	completion_tokens;
	uint64_t	busy_us;
	double		tokens_per_second;	/* new tokens, over the last 10 s */
	uint64_t	kv_blocks_used;
	uint64_t	kv_blocks_cached;	/* hold a prefix that nobody uses now */
	uint64_t	kv_blocks_total;
	uint64_t	prefix_asked;	/* prompt tokens that could have been found in the prefix cache */
	uint64_t	prefix_hits;	/* that were */
	uint64_t	preemptions;
	uint32_t	running;		/* sequences */
	uint32_t	queued;
	uint64_t	bytes;			/* of the pack and the KV blocks that hold something */
	uint64_t	drafted_tokens; /* by prompt lookup */
	uint64_t	drafts_kept;	/* that the sampler chose */
} g2_engine_row;

/* Long work of a backend. */
typedef struct g2_progress_row
{
	uint64_t	number;			/* that the backend has given it */
	uint32_t	ended;			/* 1 = forget it; never in PROGRESS_LIST */
	uint32_t	pid;			/* who does it, as in g2_request_row: the engine's to fill in */
	uint32_t	session_user;
	uint32_t	database;
	g2_span		command;
	uint32_t	relation;		/* OID; 0 = none */
	int64_t		total;			/* rows; -1 = not known */
	uint64_t	done;
	uint64_t	failed;
	uint64_t	tokens;
	int64_t		started_at;		/* microseconds since 1970 */
} g2_progress_row;

#define G2_MAX_PROGRESSES 64	/* of one client; what is more is not shown */
#define G2_MAX_COMMAND 64		/* bytes */

/*
 * The saved counters, G2_USAGE_FILE's contents: a header, then the payload of USAGE_LIST.  Written
 * under another name, fsynced and renamed.  A file of another version, of another cluster or
 * timeline, or with a wrong checksum counts as none.
 */
#define G2_USAGE_FILE "pg_stat/gpt2.stat"
#define G2_USAGE_MAGIC 0x55325047u	/* "GP2U" */
#define G2_USAGE_VERSION 1
#define G2_MAX_USAGE_FILE (16u << 20)	/* bytes */

typedef struct g2_usage_header
{
	uint32_t	magic;
	uint32_t	version;
	uint64_t	system_identifier;
	uint32_t	timeline;
	uint32_t	length;			/* of the payload */
	uint64_t	checksum;		/* FNV-1a of the payload */
} g2_usage_header;

/* ---- settings (control channel) ---- */

#define G2_MAX_DIRECTORIES 16
#define G2_MAX_PRELOAD 64		/* models of gpt2.preload_models */

/* Weight formats, in the order of g2_format (weights.h). */
#define G2_FORMAT_NAMES "f32", "bf16", "q8", "q4"

/* Instruction sets (kernels.h). */
#define G2_CPU_NAMES \
	"auto", "portable", "avx2", "avxvnni", "avx512", "avx512vnni", "avx512bf16", \
	"neon"

typedef struct g2_settings
{
	uint32_t	n_directories;
	g2_span		directories[G2_MAX_DIRECTORIES];	/* gpt2.model_path, resolved */
	g2_span		pack_directory;
	g2_span		weight_format;
	g2_span		device;			/* "auto", "cpu", "cuda", "cuda:N" */
	g2_span		cpu;			/* one of G2_CPU_NAMES */
	uint32_t	threads;		/* 0 = physical cores allowed to the process */
	uint64_t	kv_cache_size;	/* bytes; 0 = min(1 GB, 1/8 of the memory) */
	uint64_t	keep_free;		/* bytes that packing leaves free on the file system: this,
								 * or a tenth of it if that is more */
	uint32_t	disabled;		/* 1: gpt2.enabled is off: all requests end with 57014 */
	uint32_t	nice;			/* of the compute threads, 0 .. 19 */
	uint32_t	step_tokens;	/* rows of one step at most; 0 = automatic */
	uint64_t	model_memory;	/* bytes of all loaded models; 0 = no limit */
	uint64_t	result_cache_size;	/* bytes; G2_NO_RESULT_CACHE = none, 0 = the default, 64 MB */
	uint32_t	idle_timeout_s;	/* without requests, after which the engine ends; 0 = never */
	double		price_per_hour;	/* of compute time */
	uint32_t	n_preload;
	g2_span		preload[G2_MAX_PRELOAD];	/* names */
	int64_t		limits[G2_N_LIMITS];	/* of roles for which nothing is set; G2_UNLIMITED */
	uint64_t	system_identifier;	/* of the cluster, for saved counters; 0 = keep none */
	uint32_t	timeline;
	uint32_t	max_queued;		/* requests that are not answered yet; 0 = the default */
	uint32_t	has_limits;		/* 1: limits[] counts; 0: all are unlimited */
	uint64_t	pack_cache_size;	/* bytes of all packs; 0 = no limit */
	uint32_t	no_speculation; /* 1: no drafts by prompt lookup */
	uint64_t	device_memory;	/* bytes taken of a CUDA device; 0 = most of what is free */
} g2_settings;

#define G2_NO_RESULT_CACHE UINT64_MAX

/* One thing about a model's folder. */
typedef struct g2_check_row
{
	g2_span		item;
	uint32_t	result;			/* 0 = not ok, 1 = ok, else not looked at */
	g2_span		detail;			/* empty = none */
	g2_span		hint;
} g2_check_row;

/* ---- codecs ---- */

/* encode: appends the payload or the row.  decode: false when it is malformed; get: look at
 * r->failed after.  Spans point into what was read. */
extern void g2_model_row_encode(g2_writer *w, const g2_model_row *m);
extern void g2_model_row_get(g2_reader *r, g2_model_row *m);
extern void g2_info_encode(g2_writer *w, const g2_info *m);
extern bool g2_info_decode(const void *p, size_t n, g2_info *m);
extern void g2_request_row_encode(g2_writer *w, const g2_request_row *m);
extern void g2_request_row_get(g2_reader *r, g2_request_row *m);
extern void g2_usage_row_encode(g2_writer *w, const g2_usage_row *m);
extern void g2_usage_row_get(g2_reader *r, g2_usage_row *m);
extern void g2_check_row_encode(g2_writer *w, const g2_check_row *m);
extern void g2_check_row_get(g2_reader *r, g2_check_row *m);
extern void g2_engine_row_encode(g2_writer *w, const g2_engine_row *m);
extern void g2_engine_row_get(g2_reader *r, g2_engine_row *m);
extern void g2_progress_row_encode(g2_writer *w, const g2_progress_row *m);
extern void g2_progress_row_get(g2_reader *r, g2_progress_row *m);
/* The payload in the contents of a file of saved counters; false where they count as none
 * (system_identifier and timeline must be the cluster's). */
extern bool g2_usage_file_check(const void *data, size_t n, uint64_t system_identifier,
								uint32_t timeline, g2_span *payload);
/* The header for this payload. */
extern g2_usage_header g2_usage_file_header(uint64_t system_identifier, uint32_t timeline,
											const void *payload, size_t n);
extern void g2_settings_encode(g2_writer *w, const g2_settings *m);
extern bool g2_settings_decode(const void *p, size_t n, g2_settings *m);

#endif							/* G2_PROTOCOL_WATCH_H */
