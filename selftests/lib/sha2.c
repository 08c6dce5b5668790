// SPDX-License-Identifier: GPL-2.0
/*
 * SHA-256 and SHA-384, for tests that hash what the module has hashed. Both have one
 * form: of 64 rounds on words of 32 bits, or of 80 on words of 64, whose constants
 * begin alike. [FIPS 180-4]
 */
#include <string.h>

#include "sha2.h"

/* First bits of the fractional parts of the cube roots of the first primes. */
static const uint64_t constants[80] = {
	0x428a2f98d728ae22, 0x7137449123ef65cd, 0xb5c0fbcfec4d3b2f,
	0xe9b5dba58189dbbc, 0x3956c25bf348b538, 0x59f111f1b605d019,
	0x923f82a4af194f9b, 0xab1c5ed5da6d8118, 0xd807aa98a3030242,
	0x12835b0145706fbe, 0x243185be4ee4b28c, 0x550c7dc3d5ffb4e2,
	0x72be5d74f27b896f, 0x80deb1fe3b1696b1, 0x9bdc06a725c71235,
	0xc19bf174cf692694, 0xe49b69c19ef14ad2, 0xefbe4786384f25e3,
	0x0fc19dc68b8cd5b5, 0x240ca1cc77ac9c65, 0x2de92c6f592b0275,
	0x4a7484aa6ea6e483, 0x5cb0a9dcbd41fbd4, 0x76f988da831153b5,
	0x983e5152ee66dfab, 0xa831c66d2db43210, 0xb00327c898fb213f,
	0xbf597fc7beef0ee4, 0xc6e00bf33da88fc2, 0xd5a79147930aa725,
	0x06ca6351e003826f, 0x142929670a0e6e70, 0x27b70a8546d22ffc,
	0x2e1b21385c26c926, 0x4d2c6dfc5ac42aed, 0x53380d139d95b3df,
	0x650a73548baf63de, 0x766a0abb3c77b2a8, 0x81c2c92e47edaee6,
	0x92722c851482353b, 0xa2bfe8a14cf10364, 0xa81a664bbc423001,
	0xc24b8b70d0f89791, 0xc76c51a30654be30, 0xd192e819d6ef5218,
	0xd69906245565a910, 0xf40e35855771202a, 0x106aa07032bbd1b8,
	0x19a4c116b8d2d0c8, 0x1e376c085141ab53, 0x2748774cdf8eeb99,
	0x34b0bcb5e19b48a8, 0x391c0cb3c5c95a63, 0x4ed8aa4ae3418acb,
	0x5b9cca4f7763e373, 0x682e6ff3d6b2b8a3, 0x748f82ee5defb2fc,
	0x78a5636f43172f60, 0x84c87814a1f0ab72, 0x8cc702081a6439ec,
	0x90befffa23631e28, 0xa4506cebde82bde9, 0xbef9a3f7b2c67915,
	0xc67178f2e372532b, 0xca273eceea26619c, 0xd186b8c721c0c207,
	0xeada7dd6cde0eb1e, 0xf57d4f7fee6ed178, 0x06f067aa72176fba,
	0x0a637dc5a2c898a6, 0x113f9804bef90dae, 0x1b710b35131c471b,
	0x28db77f523047d84, 0x32caab7b40c72493, 0x3c9ebe0a15c9bebc,
	0x431d67c49c100d4c, 0x4cc5d4becb3e42b6, 0x597f299cfc657e2a,
	0x5fcb6fab3ad6faec, 0x6c44198c4a475817,
};

static uint32_t ror32(uint32_t word, int bits)
{
	return word >> bits | word << (32 - bits);
}

static uint64_t ror64(uint64_t word, int bits)
{
	return word >> bits | word << (64 - bits);
}

#define CHOOSE(x, y, z) (((x) & (y)) ^ (~(x) & (z)))
#define MAJORITY(x, y, z) (((x) & (y)) ^ ((x) & (z)) ^ ((y) & (z)))

/* The eight words of the state move on by one place. */
#define ROTATE(s, first, fifth)                              \
	do {                                                 \
		memmove(&(s)[1], &(s)[0], 7 * sizeof(*(s))); \
		(s)[4] += (fifth);                           \
		(s)[0] = (fifth) + (first);                  \
	} while (0)

static void block256(uint32_t *state, const uint8_t *block)
{
	uint32_t w[64], s[8], first, fifth;
	int i;

	for (i = 0; i < 16; i++)
		w[i] = (uint32_t)block[4 * i] << 24 | block[4 * i + 1] << 16 |
		       block[4 * i + 2] << 8 | block[4 * i + 3];
	for (; i < 64; i++)
		w[i] = w[i - 16] + w[i - 7] +
		       (ror32(w[i - 15], 7) ^ ror32(w[i - 15], 18) ^
			w[i - 15] >> 3) +
		       (ror32(w[i - 2], 17) ^ ror32(w[i - 2], 19) ^
			w[i - 2] >> 10);
	memcpy(s, state, sizeof(s));
	for (i = 0; i < 64; i++) {
		fifth = s[7] + CHOOSE(s[4], s[5], s[6]) + w[i] +
			(uint32_t)(constants[i] >> 32) +
			(ror32(s[4], 6) ^ ror32(s[4], 11) ^ ror32(s[4], 25));
		first = MAJORITY(s[0], s[1], s[2]) +
			(ror32(s[0], 2) ^ ror32(s[0], 13) ^ ror32(s[0], 22));
		ROTATE(s, first, fifth);
	}
	for (i = 0; i < 8; i++)
		state[i] += s[i];
}

static void block512(uint64_t *state, const uint8_t *block)
{
	uint64_t w[80], s[8], first, fifth;
	int i, j;

	for (i = 0; i < 16; i++)
		for (w[i] = 0, j = 0; j < 8; j++)
			w[i] = w[i] << 8 | block[8 * i + j];
	for (; i < 80; i++)
		w[i] = w[i - 16] + w[i - 7] +
		       (ror64(w[i - 15], 1) ^ ror64(w[i - 15], 8) ^
			w[i - 15] >> 7) +
		       (ror64(w[i - 2], 19) ^ ror64(w[i - 2], 61) ^
			w[i - 2] >> 6);
	memcpy(s, state, sizeof(s));
	for (i = 0; i < 80; i++) {
		fifth = s[7] + CHOOSE(s[4], s[5], s[6]) + w[i] + constants[i] +
			(ror64(s[4], 14) ^ ror64(s[4], 18) ^ ror64(s[4], 41));
		first = MAJORITY(s[0], s[1], s[2]) +
			(ror64(s[0], 28) ^ ror64(s[0], 34) ^ ror64(s[0], 39));
		ROTATE(s, first, fifth);
	}
	for (i = 0; i < 8; i++)
		state[i] += s[i];
}

/* The last bytes, a one, zeros and the length in bits: one block, or two. */
static size_t pad(uint8_t *last, const uint8_t *bytes, size_t size,
		  size_t block)
{
	size_t rest = size % block, length = block == 64 ? 8 : 16;
	size_t whole = rest + 1 + length > block ? 2 * block : block;
	int i;

	memset(last, 0, whole);
	memcpy(last, bytes + size - rest, rest);
	last[rest] = 0x80;
	for (i = 0; i < 8; i++)
		last[whole - 1 - i] = (uint64_t)size * 8 >> 8 * i;
	return whole;
}

void sha256(const void *from, size_t size, uint8_t *hash)
{
	uint32_t state[8] = {
		0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
		0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
	};
	const uint8_t *bytes = from;
	uint8_t last[128];
	size_t at, whole = pad(last, bytes, size, 64);
	int i;

	for (at = 0; at + 64 <= size; at += 64)
		block256(state, bytes + at);
	for (at = 0; at < whole; at += 64)
		block256(state, last + at);
	for (i = 0; i < SHA256_BYTES; i++)
		hash[i] = state[i / 4] >> (24 - i % 4 * 8);
}

void sha384(const void *from, size_t size, uint8_t *digest)
{
	uint64_t state[8] = {
		0xcbbb9d5dc1059ed8, 0x629a292a367cd507, 0x9159015a3070dd17,
		0x152fecd8f70e5939, 0x67332667ffc00b31, 0x8eb44a8768581511,
		0xdb0c2e0d64f98fa7, 0x47b5481dbefa4fa4,
	};
	const uint8_t *bytes = from;
	uint8_t last[256];
	size_t at, whole = pad(last, bytes, size, 128);
	int i;

	for (at = 0; at + 128 <= size; at += 128)
		block512(state, bytes + at);
	for (at = 0; at < whole; at += 128)
		block512(state, last + at);
	for (i = 0; i < SHA384_BYTES; i++)
		digest[i] = state[i / 8] >> (56 - i % 8 * 8);
}
