# longhaul on GPUs: CUDA 13 with cuBLAS and NCCL. From the top of the checkout:
#   docker build -f infra/docker/cuda.Dockerfile -t longhaul:0.1.0-cuda .
# Both backends come from one stage, because they must be built by the same compiler. Ubuntu's own Node.js is too old.
FROM node:20-bookworm-slim AS node

FROM nvidia/cuda:13.0.1-devel-ubuntu24.04 AS build
COPY --from=node /usr/local /usr/local
WORKDIR /src
COPY . .
RUN infra/install.sh build

# This variant has cuBLASLt and NCCL, but no compiler.
FROM nvidia/cuda:13.0.1-runtime-ubuntu24.04
COPY --from=node /usr/local/bin/node /usr/local/bin/node
COPY --from=build /opt/longhaul /opt/longhaul
COPY infra/install.sh /tmp/longhaul/infra/install.sh
RUN /tmp/longhaul/infra/install.sh run \
 && rm -rf /tmp/longhaul /var/lib/apt/lists/*
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /opt/longhaul
# Nothing is written outside /tmp: run it with --read-only --tmpfs /tmp.
ENV NODE_ENV=production \
    LONGHAUL_BACKEND=cuda
EXPOSE 7070 7080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 CMD ["node", "/opt/longhaul/health.js"]
# tini is PID 1: it hands signals on and reaps what children leave. One SIGTERM drains, a second one ends at once.
ENTRYPOINT ["/usr/bin/tini", "--", "longhaul"]
CMD ["--help"]
