import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [react()],
  // The address that `npm start` prints; the daemon lets pages of the loopback in.
  server: { host: "127.0.0.1" },
});
