// What the page of html.py runs: the scene on a turntable, orbit by mouse and touch, one button.
// tests/viewers/build.mjs bundles it with the viewer and its engine into viewer.js.
import { defaultSettings } from '@playcanvas/supersplat-viewer/settings';
import { createViewer } from '@playcanvas/supersplat-viewer/viewer';

const TURN_SECONDS = 20;
const STOPS = 24; // on the circle; the viewer draws a spline through them

/** One turn about the vertical through what the camera looks at, from its place to its right. */
const turntable = ({ position, target, fov }) => {
    const [x, y, z] = position.map((value, axis) => value - target[axis]);
    const stops = Array.from({ length: STOPS }, (_, stop) => stop / STOPS);
    const around = (stop) => {
        const [sin, cos] = [Math.sin(2 * Math.PI * stop), Math.cos(2 * Math.PI * stop)];
        return [target[0] + x * cos + z * sin, target[1] + y, target[2] + z * cos - x * sin];
    };
    return {
        name: 'turntable',
        duration: TURN_SECONDS,
        frameRate: 1,
        loopMode: 'repeat',
        interpolation: 'spline',
        smoothness: 1,
        keyframes: {
            times: stops.map((stop) => stop * TURN_SECONDS),
            values: {
                position: stops.flatMap(around),
                target: stops.flatMap(() => target),
                fov: stops.map(() => fov)
            }
        }
    };
};

const show = async ({ name, data, camera, background }) => {
    const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
    const { app, events, state } = await createViewer({
        container: document.querySelector('main'),
        settings: {
            ...defaultSettings('object'),
            background: { color: background },
            cameras: [{ initial: camera }],
            animTracks: [turntable(camera)],
            startMode: 'animTrack'
        },
        contentUrl: name,
        contents: Promise.resolve(new Response(bytes)),
        renderer: 'webgl',
        noanim: matchMedia('(prefers-reduced-motion: reduce)').matches,
        ui: false,
        exposeGlobals: true
    });

    // The viewer's own keys fly and walk; Tab and Space reach the button without them.
    state.inputEnabled = false;

    // The viewer spreads the field of view over the longer side of the window, and would cut the
    // object at the shorter. Set after each of its updates, as windows are resized.
    const lens = app.root.findByName('camera').camera;
    app.on('update', () => {
        lens.horizontalFov = app.graphicsDevice.width < app.graphicsDevice.height;
    });

    const button = document.querySelector('button');
    const turning = () => state.cameraMode === 'anim' && !state.animationPaused;
    const label = () => {
        button.dataset.turning = turning();
        button.setAttribute('aria-label', turning() ? 'Stop turning' : 'Turn');
    };
    button.addEventListener('click', () => {
        state.animationPaused = turning();
        state.cameraMode = 'anim';
    });
    events.on('loaded:changed', () => {
        // A scene with a stray Gaussian far out counts as a room, where a drag would fly.
        events.on('cameraMode:changed', (mode) => {
            if (mode === 'fly' || mode === 'walk') state.cameraMode = 'orbit';
            label();
        });
        events.on('animationPaused:changed', label);
        label();
        button.hidden = false;
        document.documentElement.dataset.ready = Math.round(performance.now());
    });
};

/** Says in the page what keeps the scene from being shown. */
const fail = (reason) => {
    const problem = document.getElementById('problem');
    problem.textContent = `This scene cannot be shown: ${reason}.`;
    problem.hidden = false;
};

if (document.createElement('canvas').getContext('webgl2')) {
    const scene = JSON.parse(document.getElementById('scene').textContent);
    show(scene).catch((error) => fail(error.message));
} else {
    fail('it needs WebGL 2, which this browser does not have, or has switched off');
}
