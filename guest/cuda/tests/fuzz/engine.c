// SPDX-License-Identifier: MIT
/*
 * A small fuzzer in one process: changes inputs that reached something new, and looks
 * which edges of the code under test the next one reaches (gcc's trace-pc). It needs
 * no clang; sanitizers find the errors, and the input that shows one is written down.
 */
#include <dirent.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sanitizer/common_interface_defs.h>

#include "engine.h"

#define EDGES	  65536u
#define INPUTS	  8192u
#define PATH_ROOM 512

struct input {
	uint8_t *data;
	size_t size;
};

static uint8_t reached[EDGES]; /* by the input that runs */
static uint8_t known[EDGES];
static uint32_t touched[EDGES];
static size_t touched_count, known_count;
static uintptr_t previous;

static struct input inputs[INPUTS];
static size_t input_count;
static const uint8_t *current;
static size_t current_size;
static uint64_t state;
static const char *corpus;

/* Called by instrumented code at each edge. */
void __sanitizer_cov_trace_pc(void);
void __sanitizer_cov_trace_pc(void)
{
	uintptr_t pc = (uintptr_t)__builtin_return_address(0);
	uint32_t at = (uint32_t)((pc ^ (previous << 3)) * 0x9e3779b1u >> 8) & (EDGES - 1);

	previous = pc;
	if (!reached[at]) {
		reached[at] = 1;
		touched[touched_count++] = at;
	}
}

/* xorshift64*: the same seed gives the same run. */
static uint64_t draw(uint64_t below)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return below ? (state * 0x2545f4914f6cdd1dull >> 16) % below : 0;
}

static void keep(const uint8_t *data, size_t size)
{
	struct input *kept;

	if (input_count == INPUTS)
		return;
	kept = &inputs[input_count];
	kept->data = malloc(size ? size : 1);
	if (!kept->data)
		return;
	memcpy(kept->data, data, size);
	kept->size = size;
	input_count++;
}

static uint64_t name_of(const uint8_t *data, size_t size)
{
	uint64_t hash = 0xcbf29ce484222325ull; /* FNV-1a */

	while (size--)
		hash = (hash ^ *data++) * 0x100000001b3ull;
	return hash;
}

static void save(const char *folder, const char *prefix, const uint8_t *data, size_t size)
{
	char path[PATH_ROOM];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s%016llx", folder, prefix,
		 (unsigned long long)name_of(data, size));
	file = fopen(path, "wb");
	if (!file)
		return;
	fwrite(data, 1, size, file);
	fclose(file);
	if (*prefix)
		fprintf(stderr, "the input is in %s\n", path);
}

static void on_death(void)
{
	if (current)
		save(corpus ? corpus : ".", "crash-", current, current_size);
}

/* Runs an input; true when it reached an edge for the first time. */
static bool run(const uint8_t *data, size_t size)
{
	bool is_new = false;

	current = data;
	current_size = size;
	previous = 0;
	fuzz_one(data, size);
	current = NULL;
	for (size_t i = 0; i < touched_count; i++) {
		reached[touched[i]] = 0;
		if (!known[touched[i]]) {
			known[touched[i]] = 1;
			known_count++;
			is_new = true;
		}
	}
	touched_count = 0;
	return is_new;
}

static uint64_t interesting(void)
{
	static const uint64_t values[] = { 0,	       1,	   2,	      15,      16,
					   64,	       127,	   255,	      256,     4095,
					   4096,       0x7fff,	   0xffff,    0x10000, 1u << 30,
					   0x7fffffff, 0x80000000, 0xffffffff };
	uint64_t value = values[draw(sizeof(values) / sizeof(*values))];

	return draw(4) ? value : ~value;
}

/* Changes one thing; returns the new size. */
static size_t change(uint8_t *data, size_t size)
{
	size_t at = draw(size), length;
	uint64_t value;

	switch (draw(8)) {
	case 0:
		if (size)
			data[at] ^= (uint8_t)(1u << draw(8));
		return size;
	case 1:
		if (size)
			data[at] = (uint8_t)draw(256);
		return size;
	case 2:
	case 3:
		length = (size_t)1 << draw(4);
		at = at / length * length;
		if (at + length > size)
			return size;
		value = interesting();
		memcpy(data + at, &value, length);
		return size;
	case 4: /* cut out */
		length = 1 + draw(draw(2) ? 8 : 64);
		if (at + length > size)
			return size;
		memmove(data + at, data + at + length, size - at - length);
		return size - length;
	case 5: /* double */
		length = 1 + draw(draw(2) ? 8 : 64);
		if (at + length > size || size + length > FUZZ_INPUT_MAX)
			return size;
		memmove(data + at + length, data + at, size - at);
		return size + length;
	case 6: { /* a piece of another input */
		const struct input *other = &inputs[draw(input_count)];
		size_t from = draw(other->size);

		length = 1 + draw(64);
		if (from + length > other->size || at + length > FUZZ_INPUT_MAX)
			return size;
		memcpy(data + at, other->data + from, length);
		return at + length > size ? at + length : size;
	}
	default: /* a little more or less */
		if (size)
			data[at] = (uint8_t)(data[at] + draw(9) - 4);
		return size;
	}
}

void fuzz_seed(const void *data, size_t size)
{
	size = size > FUZZ_INPUT_MAX ? FUZZ_INPUT_MAX : size;
	run(data, size);
	keep(data, size);
}

static void run_file(const char *path)
{
	static uint8_t data[FUZZ_INPUT_MAX];
	FILE *file = fopen(path, "rb");
	size_t size;

	if (!file) {
		perror(path);
		exit(1);
	}
	size = fread(data, 1, sizeof(data), file);
	fclose(file);
	if (run(data, size) || !corpus)
		keep(data, size);
}

static void read_corpus(void)
{
	DIR *folder = opendir(corpus);
	char path[PATH_ROOM];
	struct dirent *entry;

	if (!folder) {
		perror(corpus);
		exit(1);
	}
	while ((entry = readdir(folder))) {
		if (*entry->d_name == '.' || !strncmp(entry->d_name, "crash-", 6))
			continue;
		snprintf(path, sizeof(path), "%s/%s", corpus, entry->d_name);
		run_file(path);
	}
	closedir(folder);
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void fuzz(double seconds)
{
	static uint8_t data[FUZZ_INPUT_MAX];
	unsigned long long executions = 0;
	double start = now(), end = start + seconds, time = start;

	while (executions % 1024 || (time = now()) < end) {
		const struct input *from = &inputs[draw(input_count)];
		size_t size = from->size;

		memcpy(data, from->data, size);
		for (uint64_t changes = 1 + draw(4); changes; changes--)
			size = change(data, size);
		if (run(data, size)) {
			keep(data, size);
			if (corpus)
				save(corpus, "", data, size);
		}
		executions++;
	}
	printf("%llu cases in %.0f s (%.0f cases a second), %zu edges, %zu inputs kept\n",
	       executions, time - start, (double)executions / (time - start), known_count,
	       input_count);
}

int main(int argc, char **argv)
{
	double seconds = 10;
	int option;

	state = (uint64_t)time(NULL) * 2 + 1;
	while ((option = getopt(argc, argv, "s:r:c:")) != -1) {
		if (option == 's') {
			seconds = atof(optarg);
		} else if (option == 'r') {
			state = strtoull(optarg, NULL, 0) * 2 + 1;
		} else if (option == 'c') {
			corpus = optarg;
		} else {
			fprintf(stderr, "usage: %s [-s SECONDS] [-r SEED] [-c FOLDER] [INPUT...]\n",
				argv[0]);
			return 2;
		}
	}
	__sanitizer_set_death_callback(on_death);
	if (optind < argc) { /* only these, as regressions */
		for (; optind < argc; optind++)
			run_file(argv[optind]);
		return 0;
	}
	printf("seed %llu\n", (unsigned long long)(state / 2));
	fflush(stdout);
	fuzz_add_seeds();
	if (corpus)
		read_corpus();
	fuzz(seconds);
	return 0;
}
