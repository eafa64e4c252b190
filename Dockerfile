# The image, for those who have Docker: docker build --tag sextant .
# It has one file, a static executable, as the image of a release does (make release, which needs no Docker).
# An executable that is built already: docker build --build-context build=FOLDER . takes FOLDER/out/sextant.

# As in rust-toolchain.toml.
ARG RUST=1.95.0
FROM rust:${RUST}-bookworm AS build
ARG RUST
# Just this toolchain, without the components that only lints need.
ENV RUSTUP_TOOLCHAIN=${RUST}
WORKDIR /source
COPY . .
RUN STATIC="-C target-feature=+crt-static" release/build /target >/binary && install -D "$(cat /binary)" /out/sextant

FROM scratch
ARG VERSION=development
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Sextant" \
      org.opencontainers.image.description="A vantage6 node that runs every algorithm as a Kubernetes Job" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/sextant /sextant
USER 65532:65532
ENTRYPOINT ["/sextant"]
