// Logits of a checkpoint on given tokens, for the comparison with Hugging Face transformers (test/gpu/huggingface.py).
#include <cstdio>
#include <cstring>
#include <stdexcept>

#include "comm/tcp.h"
#include "engine/engine.h"
#include "engine/files.h"
#include "engine/model.h"
#include "ops.h"

namespace bench {

using namespace longhaul;

void logits(const std::shared_ptr<Backend>& backend, const std::string& directory, const std::string& ids, int64_t document,
            int64_t query, const std::string& out) {
  const MappedFile file(ids, "invalid_argument");
  std::vector<uint32_t> tokens(file.bytes() / 4);
  std::memcpy(tokens.data(), file.data(), tokens.size() * 4);
  const std::span<const uint32_t> all(tokens);
  Engine engine(Model::load(directory, std::nullopt, backend), make_solo());
  Trace trace;
  Control plain, traced;
  traced.trace = &trace;
  PrefillRequest prefill;
  prefill.layout.document_tokens = document;
  prefill.block = all.first(static_cast<size_t>(document));
  engine.prefill(prefill, plain);
  DecodeRequest decode;
  decode.query = all.subspan(static_cast<size_t>(document), static_cast<size_t>(query));
  decode.teacher.assign(tokens.begin() + document + query, tokens.end());
  decode.max_new_tokens = static_cast<int64_t>(decode.teacher.size());
  engine.decode(decode, traced);
  FILE* to = std::fopen(out.c_str(), "wb");
  if (!to) throw std::runtime_error(out + " cannot be written");
  std::fwrite(trace.logits.data(), sizeof(float), trace.logits.size(), to);
  std::fclose(to);
}

}  // namespace bench
