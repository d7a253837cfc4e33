# longhaul on CPUs. From the top of the checkout:
#   docker build -f infra/docker/cpu.Dockerfile -t longhaul:0.1.0-cpu .
FROM debian:13-slim AS build
WORKDIR /src
COPY . .
RUN infra/install.sh build

FROM debian:13-slim
COPY --from=build /opt/longhaul /opt/longhaul
COPY infra/install.sh /tmp/longhaul/infra/install.sh
RUN /tmp/longhaul/infra/install.sh run \
 && rm -rf /tmp/longhaul /var/lib/apt/lists/*
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /opt/longhaul
# Nothing is written outside /tmp: run it with --read-only --tmpfs /tmp.
ENV NODE_ENV=production
EXPOSE 7070 7080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["node", "/opt/longhaul/health.js"]
# tini is PID 1: it hands signals on and reaps what children leave. One SIGTERM drains, a second one ends at once.
ENTRYPOINT ["/usr/bin/tini", "--", "longhaul"]
CMD ["--help"]
