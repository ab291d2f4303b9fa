# Highwater in a container; docs/guides/containers.md says how to run it.

FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /src
COPY . .
# The image has a C compiler, which zstd takes, and the toolchain that rust-toolchain.toml names. That file is left out:
# it names clippy and rustfmt too, which would be fetched.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --bin highwater && \
    install -D target/release/highwater /image/usr/local/bin/highwater && \
    install -d /image/var/lib/highwater

# The C library and no shell.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /image/usr/local/bin/highwater /usr/local/bin/highwater
COPY --from=build --chown=65532:65532 /image/var/lib/highwater /var/lib/highwater
ENV HIGHWATER_DATA_DIR=/var/lib/highwater \
    HIGHWATER_LISTEN=0.0.0.0:9092 \
    HIGHWATER_HTTP=0.0.0.0:9080
USER 65532:65532
VOLUME /var/lib/highwater
EXPOSE 9092 9080
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s \
    CMD ["/usr/local/bin/highwater", "health"]
ENTRYPOINT ["/usr/local/bin/highwater"]
CMD ["serve"]
