# The cart API, and the payment provider beside it (`node dist/apps/payment-provider/main.js`).
FROM node:22-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
COPY libs/idempotency/package.json libs/idempotency/
RUN npm ci
COPY tsconfig.json ./
COPY libs libs
COPY apps apps
RUN npm run build

FROM node:22-slim
ENV NODE_ENV=production
WORKDIR /app
COPY package.json package-lock.json ./
COPY libs/idempotency/package.json libs/idempotency/
# Without the embedded PostgreSQL, which comes as an optional package for each platform.
RUN npm ci --omit=dev --omit=optional && npm cache clean --force
COPY --from=build /app/libs/idempotency/dist libs/idempotency/dist
COPY --from=build /app/dist/apps dist/apps
USER node
# All addresses: what reaches the container is for whoever runs it to say.
ENV HOST=0.0.0.0 PORT=3000
EXPOSE 3000
HEALTHCHECK --interval=5s --timeout=4s --start-period=30s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/health`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "dist/apps/cart/main.js"]
