import { readNewest } from "../walcast";
import { Events } from "./events";

// The rows are those of the moment, not of the build.
export const dynamic = "force-dynamic";

export default async function Page() {
  return <Events rendered={await readNewest(50)} />;
}
