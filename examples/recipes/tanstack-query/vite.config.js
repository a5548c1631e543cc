import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

const daemon = process.env.WALCAST_URL ?? "http://127.0.0.1:8010";

export default defineConfig({
  plugins: [react()],
  server: {
    host: "127.0.0.1",
    // Feeds and their history come from the page's own server, as they would behind a proxy in production.
    proxy: {
      "/ws": { target: daemon, ws: true },
      "/api": daemon,
    },
  },
});
