// @ts-check
// A photo made small enough for a bad network. Never fails: what can't be shrunk is sent as it is.

export const SIDE_MAX = 1600;
export const QUALITY = 0.8;
const SMALL_OCTETS = 300_000;

/** @param {File} file @returns {Promise<Blob>} */
export async function shrink(file) {
  if (file.size <= SMALL_OCTETS || !file.type.startsWith("image/")) return file;
  try {
    const picture = await createImageBitmap(file, { imageOrientation: "from-image" });
    const scale = Math.min(1, SIDE_MAX / Math.max(picture.width, picture.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.round(picture.width * scale);
    canvas.height = Math.round(picture.height * scale);
    canvas.getContext("2d")?.drawImage(picture, 0, 0, canvas.width, canvas.height);
    picture.close();
    const small = await new Promise((done) => canvas.toBlob(done, "image/jpeg", QUALITY));
    return small && small.size < file.size ? small : file;
  } catch {
    return file;
  }
}
