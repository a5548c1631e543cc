import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    // No result may depend on how fast a busy machine is: waits are on conditions, and only a hang reaches this.
    testTimeout: 180_000,
    hookTimeout: 180_000,
    projects: [
      { extends: true, test: { name: "unit", include: ["tests/*.test.{ts,tsx}"] } },
      { extends: true, test: { name: "browser", include: ["tests/browser/*.test.ts"], fileParallelism: false } },
      { extends: true, test: { name: "pack", include: ["tests/pack/*.test.ts"], testTimeout: 300_000 } },
    ],
  },
});
